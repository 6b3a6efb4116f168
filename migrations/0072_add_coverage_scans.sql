-- +goose Up
-- Mail that was decided without the answer of an engine is scanned again when
-- somebody wants it. What is found late is kept with who has the mail since when.

SELECT audit.maintenance('0072', 'scans of mail that was decided without an engine');

SET LOCAL ROLE mailward_owner;

CREATE TABLE coverage_scan (
    id          uuid        PRIMARY KEY, -- UUIDv7
    workspaces  uuid[]      NOT NULL,    -- in which the one who asked may
    from_at     timestamptz NOT NULL,    -- mail that came then
    to_at       timestamptz NOT NULL,
    reason      text        NOT NULL CHECK (length(reason) BETWEEN 3 AND 500),
    author_id   uuid,
    author      text        NOT NULL,
    total       integer     NOT NULL,
    cut         boolean     NOT NULL,    -- there is more than one scan takes
    state       text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'stopped')),
    trouble     text        NOT NULL DEFAULT '', -- why it waits or was stopped
    created_at  timestamptz NOT NULL DEFAULT now(),
    next_try_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    finished_at timestamptz,
    CHECK (to_at > from_at)
);
CREATE INDEX coverage_scan_due_idx ON coverage_scan (next_try_at) WHERE state = 'running';

CREATE TABLE coverage_scan_item (
    scan_id      uuid        NOT NULL REFERENCES coverage_scan (id),
    number       integer     NOT NULL,
    item_id      uuid        NOT NULL REFERENCES quarantine_item (id),
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    state        text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'same', 'worse', 'gone', 'failed')),
    class        text        NOT NULL DEFAULT '', -- as it is known now
    found        jsonb       NOT NULL DEFAULT '[]',
    at           timestamptz,
    PRIMARY KEY (scan_id, number),
    UNIQUE (scan_id, item_id)
);
CREATE INDEX coverage_scan_item_worse_idx ON coverage_scan_item (workspace_id, at DESC) WHERE state = 'worse';

-- Items that an engine has not seen are few.
CREATE INDEX quarantine_item_unseen_idx ON quarantine_item (workspace_id, received_at) WHERE engines @> '[{"answered": false}]';

RESET ROLE;

SELECT guard.record_table('coverage_scan', 'coverage.scan', 'id,workspaces,from_at,to_at,reason,author_id,total,cut,state,trouble', '', '', 'sec-3y', 'IUD');

GRANT SELECT, INSERT ON coverage_scan, coverage_scan_item TO mailward_app;
GRANT UPDATE (state, trouble, next_try_at, lease_until, finished_at) ON coverage_scan TO mailward_app;
GRANT UPDATE (state, class, found, at) ON coverage_scan_item TO mailward_app;

SELECT guard.seal();
