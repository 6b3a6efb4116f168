-- +goose Up
-- Saved views of the audit, and exports of it that run as jobs.

SELECT audit.maintenance('0026', 'saved views and exports of the audit');

SET LOCAL ROLE mailward_owner;

-- A filter under a name. A shared one is for all who read the audit of its
-- workspace; without a workspace, for those who read all of it.
CREATE TABLE audit_view (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        REFERENCES workspace (id),
    owner_id     uuid        NOT NULL REFERENCES user_account (id),
    name         text        NOT NULL CHECK (name <> '' AND length(name) <= 80),
    query        text        NOT NULL CHECK (length(query) <= 2000),   -- of the page's address
    shared       boolean     NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX audit_view_name_idx ON audit_view (owner_id, lower(name));
CREATE INDEX audit_view_shared_idx ON audit_view (workspace_id) WHERE shared;

-- An export under way or ready to be fetched. Its file lies on one node, and
-- goes with the row when it expires.
CREATE TABLE audit_export (
    id           uuid        PRIMARY KEY,
    owner_id     uuid        NOT NULL REFERENCES user_account (id),
    format       text        NOT NULL CHECK (format IN ('csv', 'ndjson', 'ocsf', 'ecs', 'cef')),
    node         text        NOT NULL,
    state        text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'ready', 'failed')),
    written      bigint      NOT NULL DEFAULT 0,
    position     timestamptz,                           -- how far back it has come
    since        timestamptz,                           -- where it ends; null: at the first event
    manifest     jsonb,                                 -- filter, range, count, tree head, SHA-256
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX audit_export_owner_idx ON audit_export (owner_id, created_at DESC);
CREATE INDEX audit_export_expiry_idx ON audit_export (expires_at);

RESET ROLE;

SELECT guard.record_table('audit_view', 'audit.view', 'id,workspace_id,owner_id,name,shared', '', 'query', 'sec-400d', 'IUD'),
       guard.record_table('audit_export', 'audit.export_job', 'id,owner_id,format,node,state,expires_at', '', '', 'sec-3y', 'IUD');

GRANT SELECT, INSERT, UPDATE, DELETE ON audit_view, audit_export TO mailward_app;

SELECT guard.seal();
