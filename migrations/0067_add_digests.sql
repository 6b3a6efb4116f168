-- +goose Up
-- Digests: recipients hear what is held for them, and can ask for it or have it.

SELECT audit.maintenance('0067', 'recipients are told by mail what is held for them');

SET LOCAL ROLE mailward_owner;

CREATE TABLE digest_setting (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL UNIQUE REFERENCES workspace (id),
    enabled      boolean     NOT NULL DEFAULT false,
    hours        smallint[]  NOT NULL CHECK (cardinality(hours) BETWEEN 1 AND 24),
    weekdays     smallint[]  NOT NULL CHECK (cardinality(weekdays) BETWEEN 1 AND 7), -- 1 is Monday
    time_zone    text        NOT NULL CHECK (length(time_zone) BETWEEN 1 AND 64),
    language     text        NOT NULL CHECK (language IN ('en', 'de')),
    release      text[]      NOT NULL CHECK (release <@ ARRAY['spam', 'broken', 'encrypted']),
    request      text[]      NOT NULL CHECK (request <@ ARRAY['spam', 'broken', 'encrypted', 'phishing', 'suspicious']),
    version      bigint      NOT NULL DEFAULT 1,
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- When a workspace's digests were last sent, and who of many processes is at it.
CREATE TABLE digest_run (
    workspace_id  uuid        PRIMARY KEY REFERENCES workspace (id),
    slot          timestamptz NOT NULL,              -- the time of the schedule that is done
    claimed_until timestamptz,
    began_at      timestamptz,
    ended_at      timestamptz,
    sent          integer     NOT NULL DEFAULT 0,
    failed        integer     NOT NULL DEFAULT 0,
    error         text        NOT NULL DEFAULT ''
);

-- Up to where a recipient has been told.
CREATE TABLE digest_told (
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    address      text        NOT NULL CHECK (address = lower(address)),
    up_to        timestamptz NOT NULL,
    told_at      timestamptz NOT NULL,
    delivery_id  uuid,
    PRIMARY KEY (workspace_id, address)
);

-- One link: for one copy, used once.
CREATE TABLE digest_link (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    item_id      uuid        NOT NULL REFERENCES quarantine_item (id),
    recipient_id uuid        NOT NULL REFERENCES quarantine_recipient (id),
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz
);
CREATE INDEX digest_link_expiry_idx ON digest_link (expires_at);

RESET ROLE;

SELECT guard.record_table('digest_setting', 'digest.setting', 'id,workspace_id,enabled,hours,weekdays,time_zone,language,release,request,version', '', '', 'sec-3y', 'IUD');
CREATE TRIGGER mailward_record_write AFTER INSERT OR UPDATE ON digest_link FOR EACH ROW WHEN (session_user <> 'mailward_app')
    EXECUTE FUNCTION guard.record_change('digest.link', 'id,item_id,recipient_id,expires_at,used_at', '', '', 'sec-3y', 'IU');
ALTER TABLE digest_link ENABLE ALWAYS TRIGGER mailward_record_write;

GRANT SELECT, INSERT, UPDATE ON digest_setting, digest_run, digest_told TO mailward_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON digest_link TO mailward_app;

SELECT guard.seal();
