-- +goose Up
-- Each blob has one row, which alone holds its data key: a new wrapping key is one
-- change for a blob, however many items and deliveries refer to it, and the same
-- mail that is held several times is stored once. With the row the key is gone, so
-- that a copy of the file in a backup cannot be read any more.

SELECT audit.maintenance('0073', 'one row for each blob of held mail');

SET LOCAL ROLE mailward_owner;

CREATE TABLE blob (
    id           uuid        PRIMARY KEY,
    name         text        COLLATE "C" NOT NULL UNIQUE,      -- below the blob folder, or the bucket's prefix
    workspace_id uuid        NOT NULL REFERENCES workspace (id), -- a blob is never shared between workspaces
    sha256       bytea,                                        -- of the mail; null: it is not shared
    wrapped_key  bytea       NOT NULL,
    wrapped_by   text        NOT NULL,                         -- local:ID, or bao:NAME:vN
    created_at   timestamptz NOT NULL DEFAULT now(),
    missing_at   timestamptz                                   -- when the sweep found that its file is gone
);
CREATE UNIQUE INDEX blob_content_idx ON blob (workspace_id, sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX blob_wrapped_idx ON blob (wrapped_by, name);
CREATE INDEX blob_missing_idx ON blob (missing_at) WHERE missing_at IS NOT NULL;

-- What is stored already is not shared: two items with the same mail have a file each.
INSERT INTO blob (id, name, workspace_id, wrapped_key, wrapped_by)
SELECT gen_random_uuid(), s.blob_name, s.workspace_id, s.blob_key, 'local:' || encode(substring(s.blob_key FOR 8), 'hex')
FROM (SELECT DISTINCT ON (blob_name) blob_name, workspace_id, blob_key FROM (
        SELECT blob_name, workspace_id, blob_key FROM quarantine_item WHERE blob_removed_at IS NULL
        UNION ALL SELECT blob_name, workspace_id, blob_key FROM delivery WHERE state IN ('queued', 'delivering')) all_of_them ORDER BY blob_name) s;

ALTER TABLE quarantine_item DROP COLUMN blob_key;
ALTER TABLE delivery DROP COLUMN blob_key;
CREATE INDEX quarantine_item_blob_idx ON quarantine_item (blob_name) WHERE blob_removed_at IS NULL;

-- What the last sweep found, for the health of the store.
CREATE TABLE blob_sweep (
    one      boolean     PRIMARY KEY DEFAULT true CHECK (one),
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    files    bigint      NOT NULL,
    removed  bigint      NOT NULL, -- files without a row, and rows that nothing needed
    missing  bigint      NOT NULL, -- rows without a file, found for the first time
    refused  bigint      NOT NULL, -- files without a row that were left: too many to be believed
    trouble  text        NOT NULL DEFAULT ''
);

RESET ROLE;

-- The program's own rows follow from items and deliveries, which are on record. One
-- that somebody else writes could take the only key of a mail away.
CREATE TRIGGER mailward_record_write AFTER INSERT OR UPDATE OR DELETE ON blob FOR EACH ROW WHEN (session_user <> 'mailward_app')
    EXECUTE FUNCTION guard.record_change('blob', 'id,name,wrapped_by,missing_at', 'wrapped_key', '', 'sec-3y', 'IUD');
ALTER TABLE blob ENABLE ALWAYS TRIGGER mailward_record_write;
SELECT guard.add_trigger('blob', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');

GRANT SELECT, INSERT, DELETE ON blob TO mailward_app;
GRANT UPDATE (wrapped_key, wrapped_by, missing_at) ON blob TO mailward_app;
GRANT SELECT, INSERT, UPDATE ON blob_sweep TO mailward_app;

SELECT guard.seal();
