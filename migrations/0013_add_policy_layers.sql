-- +goose Up
-- Policies have layers: workspace, domain, and groups of recipients on top. Each
-- layer sets only some lines. Beside them stand entries that allow or block a
-- sender, with an owner, a reason and an end.

SELECT audit.maintenance('0013', 'policies get layers, groups of recipients, and entries that allow and block');

DROP TRIGGER mailward_record ON policy;
DROP TRIGGER mailward_no_truncate ON policy;

SET LOCAL ROLE mailward_owner;

-- A named list of our own people: addresses, and patterns with *.
CREATE TABLE recipient_group (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    name         text        NOT NULL CHECK (name <> ''),
    members      text[]      NOT NULL,
    rank         integer     NOT NULL DEFAULT 0,           -- of two groups with the same recipient, the higher one counts
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX recipient_group_name_idx ON recipient_group (workspace_id, lower(name));

-- A policy with a group has the domain '*'.
ALTER TABLE policy ADD COLUMN group_id uuid REFERENCES recipient_group (id),
    ADD COLUMN lines jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(lines) = 'object'), -- {thresholds, weights, engine_failure, sandbox, dlp_sets}
    ADD CONSTRAINT policy_group_check CHECK (group_id IS NULL OR domain = '*'),
    DROP CONSTRAINT policy_workspace_id_domain_direction_key,
    ADD CONSTRAINT policy_layer_key UNIQUE NULLS NOT DISTINCT (workspace_id, domain, group_id, direction);

CREATE TABLE policy_entry (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    domain       text        NOT NULL DEFAULT '*' CHECK (domain = lower(domain) AND domain <> ''),
    group_id     uuid        REFERENCES recipient_group (id),
    direction    text        NOT NULL DEFAULT 'inbound' CHECK (direction IN ('inbound', 'outbound')),
    kind         text        NOT NULL CHECK (kind IN ('allow', 'block')),
    match        text        NOT NULL CHECK (match IN ('sender', 'sender_domain', 'client', 'link_domain', 'attachment', 'subject')),
    value        text        NOT NULL CHECK (value <> ''),
    classes      text[]      NOT NULL DEFAULT '{}',        -- that an allow lifts
    class        text        NOT NULL DEFAULT '',          -- that a block gives
    action       text        NOT NULL DEFAULT '',          -- that a block asks for
    owner        text        NOT NULL,
    reason       text        NOT NULL CHECK (reason <> ''),
    expires_at   timestamptz,
    created_by   text        NOT NULL DEFAULT '',
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (kind = 'block' OR expires_at IS NOT NULL),
    CHECK (kind = 'block' OR match IN ('sender', 'sender_domain', 'client', 'attachment')),
    CHECK (NOT classes && '{malware,unscannable}')
);
CREATE INDEX policy_entry_list_idx ON policy_entry (workspace_id, id DESC);

-- How often an entry counted. No row of the entry changes for that.
CREATE TABLE policy_entry_use (
    entry_id    uuid        PRIMARY KEY REFERENCES policy_entry (id) ON DELETE CASCADE,
    hits        bigint      NOT NULL,
    last_hit_at timestamptz NOT NULL
);

-- The domains that a mail links to, for entries that ask for them.
ALTER TABLE mail ADD COLUMN link_domains text[] NOT NULL DEFAULT '{}';

RESET ROLE;

SELECT guard.record_table('policy', 'policy', 'id,workspace_id,domain,group_id,direction,actions,auth,lines,version', '', '', 'sec-3y', 'IUD'),
       guard.record_table('recipient_group', 'group', 'id,workspace_id,name,rank,version', '', 'members', 'sec-3y', 'IUD'),
       guard.record_table('policy_entry', 'policy_entry', 'id,workspace_id,domain,group_id,direction,kind,match,classes,class,action,reason,expires_at,version', '', 'value,owner,created_by', 'sec-3y', 'IUD');

CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON recipient_group FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_policy');
CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON policy_entry FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_policy');

GRANT SELECT, INSERT, UPDATE, DELETE ON recipient_group, policy_entry TO mailward_app;
GRANT SELECT, INSERT, UPDATE ON policy_entry_use TO mailward_app;

SELECT guard.seal();
