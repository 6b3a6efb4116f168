-- +goose Up
-- Mail that waits for the sandbox: what is asked of it, about which files, and
-- what came of it. A mail that the sandbox found nothing in is released by
-- System: such a release names no person, and its event says so.

SELECT audit.maintenance('0011', 'mail is held for the sandbox, and released by its verdict');

SET LOCAL ROLE mailward_owner;

ALTER TABLE release
    ALTER COLUMN requested_by DROP NOT NULL,
    DROP CONSTRAINT release_mode_check,
    ADD CONSTRAINT release_mode_check CHECK (mode IN ('single_operator', 'required', 'sandbox')),
    ADD CONSTRAINT release_person_check CHECK ((requested_by IS NULL) = (mode = 'sandbox'));

-- One file that the sandbox is asked about, whoever waits for it. A finished one
-- with a verdict is the answer for the same file, for a while.
CREATE TABLE sandbox_task (
    id           uuid        PRIMARY KEY,
    sha256       bytea       NOT NULL CHECK (length(sha256) = 32),
    state        text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'submitting', 'submitted', 'finished')),
    cape_ids     bigint[]    NOT NULL DEFAULT '{}',         -- the sandbox's own tasks: a container becomes several
    cape_version text        NOT NULL DEFAULT '',
    verdict      text        NOT NULL DEFAULT '' CHECK (verdict IN ('', 'clean', 'suspicious', 'malicious', 'none')),
    score        real        NOT NULL DEFAULT 0,
    family       text        NOT NULL DEFAULT '',
    signatures   jsonb       NOT NULL DEFAULT '[]',
    attempts     integer     NOT NULL DEFAULT 0,            -- of a submission
    error        text        NOT NULL DEFAULT '',           -- the last one
    next_at      timestamptz NOT NULL DEFAULT now(),        -- when there is something to do
    lease_until  timestamptz,                               -- a process is at it
    created_at   timestamptz NOT NULL DEFAULT now(),
    submitted_at timestamptz,
    finished_at  timestamptz,
    CHECK ((state = 'finished') = (verdict <> ''))
);
CREATE UNIQUE INDEX sandbox_task_open_idx ON sandbox_task (sha256) WHERE state <> 'finished';
CREATE INDEX sandbox_task_cache_idx ON sandbox_task (sha256, finished_at DESC) WHERE state = 'finished';
CREATE INDEX sandbox_task_submitted_idx ON sandbox_task (submitted_at) WHERE submitted_at IS NOT NULL;

-- A held mail that waits, by the policies of its arrival; or a person's question.
CREATE TABLE sandbox_hold (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    item_id      uuid        NOT NULL REFERENCES quarantine_item (id),
    cause        text        NOT NULL CHECK (cause IN ('policy', 'person')),
    policies     jsonb       NOT NULL DEFAULT '[]',         -- [{address, policy_id, policy_version}] of the arrival
    created_at   timestamptz NOT NULL DEFAULT now(),
    deadline     timestamptz NOT NULL,
    verdict      text        NOT NULL DEFAULT '' CHECK (verdict IN ('', 'clean', 'suspicious', 'malicious', 'none')),
    detail       text        NOT NULL DEFAULT '',
    decided_at   timestamptz,
    CHECK ((decided_at IS NULL) = (verdict = ''))
);
CREATE UNIQUE INDEX sandbox_hold_open_idx ON sandbox_hold (item_id) WHERE decided_at IS NULL;
CREATE INDEX sandbox_hold_waiting_idx ON sandbox_hold (created_at) WHERE decided_at IS NULL;
CREATE INDEX sandbox_hold_item_idx ON sandbox_hold (item_id, created_at DESC);

CREATE TABLE sandbox_part (
    hold_id  uuid   NOT NULL REFERENCES sandbox_hold (id),
    sha256   bytea  NOT NULL CHECK (length(sha256) = 32),
    path     text   NOT NULL,
    name     text   NOT NULL DEFAULT '',
    size     bigint NOT NULL,
    task_id  uuid   REFERENCES sandbox_task (id),
    skipped  text   NOT NULL DEFAULT '',                    -- why it is never sent
    PRIMARY KEY (hold_id, sha256)
);
CREATE INDEX sandbox_part_task_idx ON sandbox_part (task_id) WHERE task_id IS NOT NULL;

RESET ROLE;

SELECT guard.record_table('sandbox_hold', 'sandbox.hold', 'id,item_id,cause,deadline,verdict,detail,decided_at', '', '', 'sec-3y', 'UD');

-- What the sandbox said is written by the program; a verdict that somebody
-- writes past it lets mail out, so it records itself.
CREATE TRIGGER mailward_record_write AFTER INSERT OR UPDATE ON sandbox_task FOR EACH ROW WHEN (session_user <> 'mailward_app')
    EXECUTE FUNCTION guard.record_change('sandbox.task', 'id,sha256,state,verdict,score,family,error', '', '', 'sec-3y', 'IU');
ALTER TABLE sandbox_task ENABLE ALWAYS TRIGGER mailward_record_write;
CREATE TRIGGER mailward_record_delete AFTER DELETE ON sandbox_task FOR EACH ROW
    EXECUTE FUNCTION guard.record_change('sandbox.task', 'id,sha256,state,verdict', '', '', 'sec-3y', 'D');
ALTER TABLE sandbox_task ENABLE ALWAYS TRIGGER mailward_record_delete;
SELECT guard.add_trigger('sandbox_task', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');

GRANT SELECT, INSERT, UPDATE ON sandbox_task, sandbox_hold, sandbox_part TO mailward_app;

SELECT guard.seal();
