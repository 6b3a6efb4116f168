-- +goose Up
-- What each workspace has seen of a sender before. A key is a digest, so the
-- table names nobody; it is no evidence, only a reason to look more closely.

SELECT audit.maintenance('0027', 'how often a sender has written before is remembered');

SET LOCAL ROLE mailward_owner;

CREATE TABLE sender_history (
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    key          bytea       NOT NULL CHECK (length(key) = 16),
    mails        bigint      NOT NULL,
    bad          bigint      NOT NULL DEFAULT 0,
    first_seen   timestamptz NOT NULL,
    last_seen    timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, key)
) WITH (fillfactor = 80); -- counting in place
CREATE INDEX sender_history_last_idx ON sender_history USING brin (last_seen);

RESET ROLE;

GRANT SELECT, INSERT, UPDATE, DELETE ON sender_history TO mailward_app;

SELECT guard.seal();
