-- +goose Up
-- Workspaces are archived, never deleted. Tokens say from where they were last
-- used, are cut down to some rights, and get a new secret. And one table holds
-- what waits for a second person, whatever kind of act it is.

SELECT audit.maintenance('0029', 'workspaces are archived, tokens rotate, and requests wait for a second person');

DROP TRIGGER mailward_record ON workspace;
DROP TRIGGER mailward_no_truncate ON workspace;
DROP TRIGGER mailward_record ON api_token;
DROP TRIGGER mailward_no_truncate ON api_token;

SET LOCAL ROLE mailward_owner;

ALTER TABLE workspace ADD COLUMN archived_at timestamptz; -- nothing new is made in it; what it holds stays to be read
CREATE UNIQUE INDEX workspace_name_idx ON workspace (lower(name));

ALTER TABLE api_token
    ADD COLUMN scopes         text[] NOT NULL DEFAULT '{}', -- rights; none: all that the role has
    ADD COLUMN last_used_ip   inet,
    ADD COLUMN previous_hash  bytea,                        -- of the secret before the last change
    ADD COLUMN previous_until timestamptz;                  -- how long that one still counts
CREATE INDEX api_token_previous_idx ON api_token (previous_hash) WHERE previous_hash IS NOT NULL;
CREATE INDEX api_token_owner_idx ON api_token (owner_id);

-- An act that waits for a second person. Releases wait in their own table, since
-- they have rows of deliveries; all others wait here. What exactly will be done
-- stands in detail and in the event that intent_event_id names.
CREATE TABLE approval_request (
    id              uuid        PRIMARY KEY,
    workspace_id    uuid        REFERENCES workspace (id), -- null: the whole installation
    kind            text        NOT NULL CHECK (kind IN ('role_grant', 'delete', 'export', 'body_view', 'retention')),
    detail          jsonb       NOT NULL CHECK (jsonb_typeof(detail) = 'object'),
    requested_by    uuid        NOT NULL REFERENCES user_account (id),
    reason          text        NOT NULL CHECK (reason <> ''),
    intent_event_id uuid        NOT NULL UNIQUE,
    state           text        NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'approved', 'denied')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    decided_at      timestamptz
);
CREATE INDEX approval_request_open_idx ON approval_request (created_at) WHERE state = 'requested';

-- Acts on the whole installation have no workspace.
ALTER TABLE approval ALTER COLUMN workspace_id DROP NOT NULL;

-- Who made an account or gave a role is known by id: whether the one who asks
-- also made the one who agrees is decided by it.
UPDATE user_account a SET created_by = u.id::text FROM user_account u WHERE u.email = a.created_by;
UPDATE role_grant g SET granted_by = u.id::text FROM user_account u WHERE u.email = g.granted_by;

RESET ROLE;

SELECT guard.record_table('workspace', 'workspace', 'id,name,archived_at', '', '', 'sec-3y', 'IUD'),
       guard.record_table('api_token', 'token', 'id,workspace_id,name,role,scopes,owner_id,expires_at,revoked_at,previous_until', 'token_hash', '', 'sec-3y', 'IUD'),
       guard.record_table('approval_request', 'approval_request', 'id,workspace_id,kind,detail,requested_by,reason,intent_event_id,state', '', '', 'sec-3y', 'IUD');

GRANT SELECT, INSERT, UPDATE ON workspace, approval_request TO mailward_app;

SELECT guard.seal();
