-- +goose Up
-- Views of the audit that people save, and how far their exports have come.

SELECT audit.maintenance('0034', 'saved views of the audit, and the progress of exports');

SET LOCAL ROLE mailward_owner;

-- A filter under a name, for the one who saved it.
CREATE TABLE audit_view (
    id         uuid        PRIMARY KEY,
    owner_id   uuid        NOT NULL REFERENCES user_account (id),
    name       text        NOT NULL CHECK (name <> '' AND length(name) <= 80),
    query      text        NOT NULL CHECK (length(query) <= 2000), -- of the page's address
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX audit_view_name_idx ON audit_view (owner_id, lower(name));

-- How far an export has come. The file itself goes straight to its reader: a copy
-- here would keep personal values that were erased since. What counts as evidence
-- is in the two events of each export, so these rows are not recorded and go
-- after a month.
CREATE TABLE audit_export (
    id         uuid        PRIMARY KEY, -- the event that announced it
    owner_id   uuid        NOT NULL REFERENCES user_account (id),
    format     text        NOT NULL CHECK (format <> ''),
    state      text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'complete', 'failed')),
    written    bigint      NOT NULL DEFAULT 0,
    done       real        NOT NULL DEFAULT 0 CHECK (done BETWEEN 0 AND 1), -- of the span of time
    manifest   jsonb,                                                      -- what it came to
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_export_owner_idx ON audit_export (owner_id, created_at DESC);
CREATE INDEX audit_export_created_idx ON audit_export (created_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON audit_view, audit_export TO mailward_app;

RESET ROLE;

-- A filter may name a person, so of it only a keyed hash is recorded.
SELECT guard.record_table('audit_view', 'audit.saved_view', 'id,owner_id,name', 'query', '', 'sec-400d', 'IUD');

SELECT guard.seal();
