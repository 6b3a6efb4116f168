-- +goose Up
-- The tables of the product that are not the audit: who may do what, which
-- domains we serve, what was decided on each mail, what is held back, and what
-- still has to be delivered. Row triggers that record changes come with a later
-- file; rights are granted there too.
--
-- Every id is a UUIDv7 made by the writer, so that a retry cannot write twice.

SET LOCAL ROLE mailward_owner;

-- One row per client of a provider; a single company has just this one.
CREATE TABLE workspace (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL CHECK (name <> ''),
    created_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO workspace (id, name) VALUES ('00000000-0000-7000-8000-000000000001', 'Default');

-- Settings of the whole installation, as the person at the first start or an
-- admin chose them. The configuration file wins over none of these.
CREATE TABLE setting (
    key         text        PRIMARY KEY,
    value       jsonb       NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE user_account (
    id                   uuid        PRIMARY KEY,
    email                text        NOT NULL CHECK (email = lower(email) AND email <> ''),
    name                 text        NOT NULL DEFAULT '',
    password_hash        text        NOT NULL DEFAULT '',   -- argon2id, PHC string; empty: cannot log in with a password
    state                text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'locked', 'disabled')),
    must_change_password boolean     NOT NULL DEFAULT false,
    locale               text        NOT NULL DEFAULT '',
    theme                text        NOT NULL DEFAULT '',
    created_at           timestamptz NOT NULL DEFAULT now(),
    created_by           text        NOT NULL DEFAULT '',
    last_login_at        timestamptz
);
CREATE UNIQUE INDEX user_account_email_idx ON user_account (email);

CREATE TABLE role_grant (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES user_account (id),
    workspace_id uuid        REFERENCES workspace (id),     -- null: the whole installation
    role         text        NOT NULL CHECK (role IN ('admin', 'analyst', 'approver', 'auditor', 'viewer', 'operator')),
    granted_at   timestamptz NOT NULL DEFAULT now(),
    granted_by   text        NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX role_grant_once_idx ON role_grant (user_id, workspace_id, role) NULLS NOT DISTINCT;

-- The cookie holds a random token; only its SHA-256 is here.
CREATE TABLE session (
    id               uuid        PRIMARY KEY,
    token_hash       bytea       NOT NULL UNIQUE,
    user_id          uuid        NOT NULL REFERENCES user_account (id),
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_seen_at     timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    authenticated_at timestamptz NOT NULL DEFAULT now(),    -- last time that the password was given (step-up)
    auth_method      text        NOT NULL DEFAULT 'password',
    source_ip        inet,
    user_agent_class text        NOT NULL DEFAULT '',
    ended_at         timestamptz
);
CREATE INDEX session_user_idx ON session (user_id, created_at DESC);

CREATE TABLE api_token (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        REFERENCES workspace (id),     -- null: the whole installation
    token_hash   bytea       NOT NULL UNIQUE,
    name         text        NOT NULL DEFAULT '',
    role         text        NOT NULL,
    owner_id     uuid        NOT NULL REFERENCES user_account (id),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

CREATE TABLE domain (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    name         text        NOT NULL CHECK (name = lower(name) AND name <> ''),
    next_hop     text        NOT NULL DEFAULT '',           -- host:port; empty: the configured default
    enabled      boolean     NOT NULL DEFAULT true,
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX domain_name_idx ON domain (name);

-- What is done with mail of each class. Domain '*' is the workspace's default;
-- a class that a domain's own row does not name falls back to it.
CREATE TABLE policy (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    domain       text        NOT NULL CHECK (domain = lower(domain) AND domain <> ''),
    direction    text        NOT NULL DEFAULT 'inbound' CHECK (direction IN ('inbound', 'outbound')),
    actions      jsonb       NOT NULL CHECK (jsonb_typeof(actions) = 'object'),
    version      bigint      NOT NULL DEFAULT 1,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workspace_id, domain, direction)
);
INSERT INTO policy (id, workspace_id, domain, actions) VALUES
    ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', '*',
     '{"clean": "deliver", "spam": "tag", "broken": "tag", "encrypted": "tag", "suspicious": "hold",
       "phishing": "quarantine", "malware": "quarantine", "dlp": "quarantine", "unscannable": "quarantine"}');

-- The ledger: one row per decision on a mail, by day of its UUIDv7.
CREATE TABLE mail (
    id             uuid        NOT NULL PRIMARY KEY,
    workspace_id   uuid        NOT NULL,
    received_at    timestamptz NOT NULL,
    node           text        NOT NULL DEFAULT '',
    client_ip      inet,
    helo           text        NOT NULL DEFAULT '',
    tls            text        NOT NULL DEFAULT '',
    envelope_from  text        NOT NULL,                    -- '' is the null sender
    recipients     jsonb       NOT NULL,                    -- [{address, domain, action, policy_id, policy_version, why}]
    header_from    text        NOT NULL DEFAULT '',
    subject        text        NOT NULL DEFAULT '',
    message_id     text        NOT NULL DEFAULT '',
    size           bigint      NOT NULL,
    sha256         bytea       NOT NULL,
    class          text        NOT NULL,
    action         text        NOT NULL,
    score          real        NOT NULL DEFAULT 0,
    reasons        jsonb       NOT NULL DEFAULT '[]',
    findings       jsonb       NOT NULL DEFAULT '[]',
    engines        jsonb       NOT NULL DEFAULT '[]',       -- who answered, with versions; who did not, and why
    parts          jsonb       NOT NULL DEFAULT '[]',
    auth           jsonb       NOT NULL DEFAULT '{}',
    header_edits   jsonb       NOT NULL DEFAULT '[]',       -- [[offset, length]] of header fields not passed on
    raw_header     bytea       NOT NULL DEFAULT '',
    scan_ms        integer     NOT NULL DEFAULT 0
) PARTITION BY RANGE (id);
CREATE TABLE mail_default PARTITION OF mail DEFAULT;
CREATE INDEX mail_workspace_idx ON mail (workspace_id, id DESC);
CREATE INDEX mail_sha256_idx ON mail (sha256);

-- What became of each recipient's copy, beside the decision.
CREATE TABLE mail_outcome (
    id         uuid        NOT NULL PRIMARY KEY,
    mail_id    uuid        NOT NULL,
    recipient  text        NOT NULL,
    state      text        NOT NULL,                        -- relayed, refused, quarantined, deferred, rejected, queued, failed, outcome_unknown
    next_hop   text        NOT NULL DEFAULT '',
    code       integer     NOT NULL DEFAULT 0,
    text       text        NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (id);
CREATE TABLE mail_outcome_default PARTITION OF mail_outcome DEFAULT;
CREATE INDEX mail_outcome_mail_idx ON mail_outcome (mail_id);

CREATE TABLE quarantine_item (
    id            uuid        PRIMARY KEY,
    workspace_id  uuid        NOT NULL REFERENCES workspace (id),
    mail_id       uuid        NOT NULL,
    class         text        NOT NULL,
    score         real        NOT NULL DEFAULT 0,
    received_at   timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    client_ip     inet,
    helo          text        NOT NULL DEFAULT '',
    envelope_from text        NOT NULL,
    header_from   text        NOT NULL DEFAULT '',
    subject       text        NOT NULL DEFAULT '',
    message_id    text        NOT NULL DEFAULT '',
    size          bigint      NOT NULL,
    sha256        bytea       NOT NULL,
    reasons       jsonb       NOT NULL DEFAULT '[]',
    findings      jsonb       NOT NULL DEFAULT '[]',
    engines       jsonb       NOT NULL DEFAULT '[]',
    parts         jsonb       NOT NULL DEFAULT '[]',
    auth          jsonb       NOT NULL DEFAULT '{}',
    header_edits  jsonb       NOT NULL DEFAULT '[]',
    trace_header  bytea       NOT NULL DEFAULT '',          -- the header lines that we put on top when it is sent
    smtputf8      boolean     NOT NULL DEFAULT false,
    eight_bit     boolean     NOT NULL DEFAULT false,
    blob_key      bytea       NOT NULL,                     -- data key of the blob, wrapped
    blob_name     text        NOT NULL,                     -- path below the blob folder
    blob_removed_at timestamptz,
    state         text        NOT NULL DEFAULT 'quarantined' -- derived from its recipients' states, kept for the lists
);
CREATE INDEX quarantine_item_list_idx ON quarantine_item (workspace_id, received_at DESC, id DESC);
CREATE INDEX quarantine_item_mail_idx ON quarantine_item (mail_id);
CREATE INDEX quarantine_item_expiry_idx ON quarantine_item (expires_at) WHERE blob_removed_at IS NULL;

CREATE TABLE quarantine_recipient (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    item_id      uuid        NOT NULL REFERENCES quarantine_item (id),
    address      text        NOT NULL,
    state        text        NOT NULL CHECK (state IN ('held', 'quarantined', 'release_requested', 'release_scheduled',
                     'delivering', 'released', 'failed', 'outcome_unknown', 'denied', 'deleted', 'expired')),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    reply_code   integer     NOT NULL DEFAULT 0,
    reply_text   text        NOT NULL DEFAULT '',
    UNIQUE (item_id, address)
);
CREATE INDEX quarantine_recipient_address_idx ON quarantine_recipient (lower(address));

-- A person's decision to let a held mail go. The worker delivers it only if the
-- audit event that it names says the same.
CREATE TABLE release (
    id              uuid        PRIMARY KEY,
    workspace_id    uuid        NOT NULL REFERENCES workspace (id),
    item_id         uuid        NOT NULL REFERENCES quarantine_item (id),
    recipient_ids   uuid[]      NOT NULL CHECK (cardinality(recipient_ids) > 0),
    intent_event_id uuid        NOT NULL UNIQUE,
    requested_by    uuid        NOT NULL REFERENCES user_account (id),
    reason          text        NOT NULL CHECK (reason <> ''),
    mode            text        NOT NULL CHECK (mode IN ('single_operator', 'required')),
    state           text        NOT NULL CHECK (state IN ('requested', 'approved', 'denied', 'failed', 'done')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    decided_at      timestamptz
);
CREATE INDEX release_item_idx ON release (item_id);

-- Second people's words on a request. One table for every kind of act.
CREATE TABLE approval (
    id            uuid        PRIMARY KEY,
    workspace_id  uuid        NOT NULL REFERENCES workspace (id),
    subject_type  text        NOT NULL CHECK (subject_type IN ('release', 'delete', 'export', 'body_view', 'retention', 'role_grant')),
    subject_id    uuid        NOT NULL,
    requested_by  uuid        NOT NULL REFERENCES user_account (id),
    approver_id   uuid        NOT NULL REFERENCES user_account (id),
    decision      text        NOT NULL CHECK (decision IN ('approved', 'denied')),
    comment       text        NOT NULL DEFAULT '',
    event_id      uuid        NOT NULL,
    decided_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (subject_type, subject_id, approver_id),
    CHECK (approver_id <> requested_by)
);

-- Mail that we answer for and still have to pass on, one row per recipient.
-- dot_sent_at is committed just before the final dot goes out: with it set and
-- no reply stored, the next hop may have the mail, so it is not sent again.
CREATE TABLE delivery (
    id              uuid        PRIMARY KEY,
    workspace_id    uuid        NOT NULL REFERENCES workspace (id),
    kind            text        NOT NULL CHECK (kind IN ('release', 'relay', 'dsn')),
    mail_id         uuid        NOT NULL,
    item_id         uuid        REFERENCES quarantine_item (id),
    release_id      uuid        REFERENCES release (id),
    recipient_id    uuid        REFERENCES quarantine_recipient (id),
    envelope_from   text        NOT NULL,
    recipient       text        NOT NULL,
    blob_key        bytea       NOT NULL,
    blob_name       text        NOT NULL,
    header_edits    jsonb       NOT NULL DEFAULT '[]',
    trace_header    bytea       NOT NULL DEFAULT '',
    smtputf8        boolean     NOT NULL DEFAULT false,
    eight_bit       boolean     NOT NULL DEFAULT false,
    state           text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'delivering', 'delivered', 'failed', 'outcome_unknown', 'cancelled')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    give_up_at      timestamptz NOT NULL,
    lease_until     timestamptz,
    lease_owner     text        NOT NULL DEFAULT '',
    dot_sent_at     timestamptz,
    next_hop        text        NOT NULL DEFAULT '',
    reply_code      integer     NOT NULL DEFAULT 0,
    reply_text      text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX delivery_due_idx ON delivery (next_attempt_at) WHERE state IN ('queued', 'delivering');
-- At most one live or finished delivery of a held mail to one recipient.
CREATE UNIQUE INDEX delivery_once_idx ON delivery (recipient_id)
    WHERE kind = 'release' AND state IN ('queued', 'delivering', 'delivered', 'outcome_unknown');

CREATE TABLE health_state (
    component  text        PRIMARY KEY,
    state      text        NOT NULL,
    since      timestamptz NOT NULL,
    last_good  timestamptz,
    detail     text        NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now()
);

RESET ROLE;
