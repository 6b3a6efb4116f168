-- +goose Up
-- Acts on many held mails at once: who asked for what, and what became of each.

SELECT audit.maintenance('0061', 'acts on many held mails at once');

SET LOCAL ROLE mailward_owner;

CREATE TABLE quarantine_bulk (
    id          uuid        PRIMARY KEY,             -- the asker's: a form that is sent twice is done once
    owner_id    uuid        NOT NULL REFERENCES user_account (id),
    session_id  uuid,                                -- in whose name each act is done, as long as it is open
    token_id    uuid,
    act         text        NOT NULL CHECK (act IN ('release', 'delete', 'deny', 'sandbox')),
    reason      text        NOT NULL CHECK (reason <> ''),
    query       text        NOT NULL DEFAULT '',     -- the filter that selected them, as the page's address has it
    cut         boolean     NOT NULL DEFAULT false,  -- the filter selected more than one act takes
    asked       jsonb       NOT NULL,                -- the call and its signature, for the events of the items
    event_id    uuid        NOT NULL UNIQUE,         -- of the audit; the events of the items name it as their cause
    total       integer     NOT NULL,
    state       text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'stopped')),
    trouble     text        NOT NULL DEFAULT '',     -- why it waits or was stopped
    created_at  timestamptz NOT NULL DEFAULT now(),
    next_try_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    finished_at timestamptz
);
CREATE INDEX quarantine_bulk_owner_idx ON quarantine_bulk (owner_id, created_at DESC);
CREATE INDEX quarantine_bulk_due_idx ON quarantine_bulk (next_try_at) WHERE state = 'running';

CREATE TABLE quarantine_bulk_item (
    id           uuid        NOT NULL DEFAULT gen_random_uuid(),
    bulk_id      uuid        NOT NULL REFERENCES quarantine_bulk (id),
    number       integer     NOT NULL,
    item_id      uuid        NOT NULL REFERENCES quarantine_item (id),
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    state        text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'waiting', 'refused', 'failed')),
    detail       text        NOT NULL DEFAULT '',
    at           timestamptz,
    PRIMARY KEY (bulk_id, number),
    UNIQUE (bulk_id, item_id)
);
CREATE INDEX quarantine_bulk_item_item_idx ON quarantine_bulk_item (item_id);

RESET ROLE;

SELECT guard.record_table('quarantine_bulk', 'quarantine.bulk', 'id,owner_id,session_id,token_id,act,reason,event_id,total,state,trouble', '', '', 'sec-3y', 'IUD');

-- What became of an item is in the events of the acts; a row that somebody writes
-- past the program would have something done in a person's name.
CREATE TRIGGER mailward_record_write AFTER INSERT OR UPDATE OR DELETE ON quarantine_bulk_item FOR EACH ROW WHEN (session_user <> 'mailward_app')
    EXECUTE FUNCTION guard.record_change('quarantine.bulk_item', 'id,bulk_id,number,item_id,state,detail', '', '', 'sec-3y', 'IUD');
ALTER TABLE quarantine_bulk_item ENABLE ALWAYS TRIGGER mailward_record_write;

GRANT SELECT, INSERT, UPDATE ON quarantine_bulk, quarantine_bulk_item TO mailward_app;

SELECT guard.seal();
