-- +goose Up
-- Releases by the rules of a class: who has to agree, until when, why, to whom
-- besides, and what the engines say of the mail on the day on which it goes.

SELECT audit.maintenance('0066', 'releases follow rules by class, can be taken back, are scanned again and leave a mark');

DROP TRIGGER mailward_record ON release;
DROP TRIGGER mailward_no_truncate ON release;
DROP TRIGGER mailward_record ON quarantine_recipient;
DROP TRIGGER mailward_no_truncate ON quarantine_recipient;

SET LOCAL ROLE mailward_owner;

ALTER TABLE release
    ADD COLUMN class       text        NOT NULL DEFAULT '',     -- of the mail when somebody decided
    ADD COLUMN reason_code text        NOT NULL DEFAULT '',
    ADD COLUMN expires_at  timestamptz,                         -- of a request that nobody answers
    ADD COLUMN insisted    boolean     NOT NULL DEFAULT false,  -- although a scan at release had stopped it
    ADD COLUMN again       boolean     NOT NULL DEFAULT false,  -- to copies that may have arrived already
    ADD COLUMN prior       jsonb       NOT NULL DEFAULT '{}',   -- {recipient: state} before it
    ADD COLUMN scanned_at  timestamptz,                         -- when the engines last agreed to it
    ADD COLUMN asked_by    uuid        REFERENCES quarantine_recipient (id), -- the recipient, by a link of a digest
    DROP CONSTRAINT release_mode_check,
    ADD CONSTRAINT release_mode_check CHECK (mode IN ('single_operator', 'one_person', 'required', 'sandbox', 'recipient')),
    DROP CONSTRAINT release_person_check,
    ADD CONSTRAINT release_person_check CHECK ((requested_by IS NULL) = (mode = 'sandbox' OR asked_by IS NOT NULL)),
    DROP CONSTRAINT release_state_check,
    ADD CONSTRAINT release_state_check CHECK (state IN ('requested', 'approved', 'denied', 'failed', 'done', 'expired', 'cancelled', 'stopped'));
CREATE INDEX release_expiry_idx ON release (expires_at) WHERE state = 'requested';

-- A recipient's request names no account.
ALTER TABLE approval ALTER COLUMN requested_by DROP NOT NULL;

ALTER TABLE quarantine_recipient
    ADD COLUMN added      boolean     NOT NULL DEFAULT false, -- no recipient of the mail: a release goes there besides
    ADD COLUMN reply_host text        NOT NULL DEFAULT '',    -- that answered
    ADD COLUMN reply_at   timestamptz;

ALTER TABLE quarantine_item
    ADD COLUMN rescan     jsonb       NOT NULL DEFAULT '{}',  -- what the engines said the last time that they were asked again
    ADD COLUMN stopped_at timestamptz;                        -- a release was stopped by that, and nobody has insisted since

-- A copy of which nobody knows whether it arrived, sent again on a person's word.
ALTER TABLE delivery
    DROP CONSTRAINT delivery_state_check,
    ADD CONSTRAINT delivery_state_check CHECK (state IN ('queued', 'delivering', 'delivered', 'failed', 'outcome_unknown', 'cancelled', 'deleted', 'repeated'));

-- What a workspace wants of a class of held mail. A class without a row follows
-- the installation.
CREATE TABLE quarantine_rule (
    id            uuid        PRIMARY KEY,
    workspace_id  uuid        NOT NULL REFERENCES workspace (id),
    class         text        NOT NULL CHECK (class <> ''),
    people        smallint    CHECK (people IN (1, 2)),                 -- that a release takes; null: as the installation
    request_hours integer     CHECK (request_hours BETWEEN 1 AND 720),  -- that a request waits
    keep_days     integer     CHECK (keep_days BETWEEN 1 AND 3650),     -- that the mail is kept
    updated_at    timestamptz NOT NULL DEFAULT now(),
    version       bigint      NOT NULL DEFAULT 1,
    UNIQUE (workspace_id, class)
);

-- By what a released copy is known when it comes by once more: a secret that only
-- the mail bears, and the bytes below it.
CREATE TABLE release_mark (
    release_id   uuid        NOT NULL REFERENCES release (id),
    recipient_id uuid        NOT NULL REFERENCES quarantine_recipient (id),
    token_sha256 bytea       NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
    body_sha256  bytea       NOT NULL CHECK (length(body_sha256) = 32),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (release_id, recipient_id)
);
CREATE INDEX release_mark_expiry_idx ON release_mark (expires_at);

-- What people say was held by mistake.
CREATE TABLE false_positive (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    item_id      uuid        NOT NULL REFERENCES quarantine_item (id),
    class        text        NOT NULL,
    findings     jsonb       NOT NULL DEFAULT '[]',
    reason       text        NOT NULL CHECK (length(reason) BETWEEN 3 AND 2000),
    reporter_id  uuid        REFERENCES user_account (id),
    reporter     text        NOT NULL,
    entry_id     uuid,                                    -- the exception that was made with it
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX false_positive_item_idx ON false_positive (item_id);
CREATE INDEX false_positive_list_idx ON false_positive (workspace_id, id DESC);

RESET ROLE;

SELECT guard.record_table('release', 'release', 'id,item_id,recipient_ids,intent_event_id,requested_by,asked_by,class,reason,reason_code,mode,state,expires_at,insisted,again', '', '', 'sec-3y', 'IUD'),
       guard.record_table('quarantine_recipient', 'quarantine.recipient', 'id,item_id,state,reply_code,reply_host,added', '', 'address', 'sec-3y', 'UD'),
       guard.record_table('quarantine_rule', 'quarantine.rule', 'id,workspace_id,class,people,request_hours,keep_days,version', '', '', 'sec-3y', 'IUD'),
       guard.record_table('false_positive', 'quarantine.false_positive', 'id,workspace_id,item_id,class,reason,reporter_id,entry_id', '', 'reporter', 'sec-3y', 'IUD');

-- A mark lets mail pass: one that somebody writes past the program records itself.
CREATE TRIGGER mailward_record_write AFTER INSERT OR UPDATE ON release_mark FOR EACH ROW WHEN (session_user <> 'mailward_app')
    EXECUTE FUNCTION guard.record_change('release.mark', 'release_id,recipient_id,expires_at', '', '', 'sec-3y', 'IU');
ALTER TABLE release_mark ENABLE ALWAYS TRIGGER mailward_record_write;

GRANT SELECT, INSERT, UPDATE ON quarantine_rule TO mailward_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON release_mark TO mailward_app;
GRANT SELECT, INSERT ON false_positive TO mailward_app;

SELECT guard.seal();
