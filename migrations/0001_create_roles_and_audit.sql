-- +goose Up
-- Roles, and the tables of the audit.
--
-- mailward_owner  owns every table; nobody logs in as it.
-- mailward_guard  owns the functions that protect the audit and record changes.
--                 Not the owner of the tables: who owns both could drop both.
-- mailward_trace  can add a row to audit.tamper_attempt, and nothing else. The
--                 guard logs in as it over a loopback connection, so that the
--                 trace of an attempt outlives the attempt's own rollback.
-- mailward_app    is what the program runs as: it owns nothing, and reaches
--                 the audit only through functions.
--
-- Roles belong to the whole cluster, so they may be there already.

-- +goose StatementBegin
DO $$
DECLARE r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['mailward_owner', 'mailward_guard'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', r);
        END IF;
    END LOOP;
    FOREACH r IN ARRAY ARRAY['mailward_trace', 'mailward_app'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', r);
        END IF;
    END LOOP;
    EXECUTE format('GRANT mailward_owner, mailward_guard TO %I', current_user);
END $$;
-- +goose StatementEnd

-- A trace that hangs must not hang the statement that it traces.
ALTER ROLE mailward_trace SET lock_timeout = '1s';
ALTER ROLE mailward_trace SET statement_timeout = '3s';
ALTER ROLE mailward_trace CONNECTION LIMIT 20;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO mailward_owner;
GRANT USAGE ON SCHEMA public TO mailward_app, mailward_guard;

CREATE SCHEMA audit AUTHORIZATION mailward_owner;
CREATE SCHEMA guard AUTHORIZATION mailward_guard;
GRANT USAGE ON SCHEMA audit TO mailward_app, mailward_guard, mailward_trace;
GRANT USAGE ON SCHEMA guard TO mailward_app, mailward_owner;

-- The loopback of the trace needs dblink, which only a superuser can add. Its
-- functions reach other servers, so nobody but the guard may call them.
-- +goose StatementBegin
DO $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        CREATE EXTENSION IF NOT EXISTS dblink SCHEMA guard;
        REVOKE ALL ON ALL FUNCTIONS IN SCHEMA guard FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION guard.dblink(text, text), guard.dblink_exec(text, text) TO mailward_guard;
    END IF;
END $$;
-- +goose StatementEnd

SET LOCAL ROLE mailward_owner;

-- One row per act: the exact bytes of its JSON, never changed and never
-- re-serialised. The other columns are read from the bytes once, for searching.
CREATE TABLE audit.event (
    id           uuid        NOT NULL,              -- UUIDv7, made by the writer
    retention    text        NOT NULL,
    recorded_at  timestamptz NOT NULL,              -- the database's clock
    db_role      text        NOT NULL,              -- who was logged in to the database
    client_addr  inet,                              -- null over a unix socket
    bytes        bytea       NOT NULL,
    workspace_id uuid,
    action       text        NOT NULL,
    phase        text        NOT NULL,
    outcome      text        NOT NULL,
    actor_type   text        NOT NULL,
    actor_id     text        NOT NULL DEFAULT '',
    target_ids   text[]      NOT NULL DEFAULT '{}',
    actor_blind  bytea,                             -- keyed hash of the actor's e-mail address
    ip_blind     bytea,                             -- keyed hash of the source address
    PRIMARY KEY (retention, id)
) PARTITION BY LIST (retention);
CREATE INDEX event_id_idx ON audit.event (id DESC);
CREATE INDEX event_action_idx ON audit.event (action text_pattern_ops, id DESC);
CREATE INDEX event_workspace_idx ON audit.event (workspace_id, id DESC);
CREATE INDEX event_actor_idx ON audit.event (actor_id, id DESC);
CREATE INDEX event_actor_blind_idx ON audit.event (actor_blind, id DESC) WHERE actor_blind IS NOT NULL;
CREATE INDEX event_target_idx ON audit.event USING gin (target_ids);

-- Clear personal values, apart from the events, which hold only commitments to
-- them (SHA-256 over salt and value). Erasing a row here breaks no proof.
CREATE TABLE audit.pii (
    event_id uuid  NOT NULL,
    path     text  NOT NULL,
    value    text  NOT NULL,
    salt     bytea NOT NULL CHECK (octet_length(salt) >= 16),
    blind    bytea NOT NULL,                        -- keyed hash, to search by value
    PRIMARY KEY (event_id, path)
);
CREATE INDEX pii_blind_idx ON audit.pii (blind);

-- Events that the sequencer has not numbered yet.
CREATE TABLE audit.unsequenced (
    id          uuid        PRIMARY KEY,
    retention   text        NOT NULL,
    recorded_at timestamptz NOT NULL
);

-- The order of events, without gaps, and the leaf of each in the Merkle tree.
CREATE TABLE audit.leaf (
    seq       bigint PRIMARY KEY CHECK (seq >= 0),
    event_id  uuid   NOT NULL,
    retention text   NOT NULL,
    leaf_hash bytea  NOT NULL CHECK (octet_length(leaf_hash) = 32),
    UNIQUE (event_id, retention)
);

-- How far each stream of events has come.
CREATE TABLE audit.stream_cursor (
    sink       text        PRIMARY KEY,
    next_seq   bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Attempts to change what may not be changed. Written only by mailward_trace.
CREATE TABLE audit.tamper_attempt (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    operation   text        NOT NULL,
    object      text        NOT NULL,
    session_role text       NOT NULL,
    current_role_name text  NOT NULL,
    client_addr text        NOT NULL DEFAULT '',
    application text        NOT NULL DEFAULT '',
    query       text        NOT NULL DEFAULT ''
);
-- Takes the trace where the table above is locked by the very statement that is
-- traced (TRUNCATE of it, LOCK before the attack). Its ids run down from -1.
CREATE TABLE audit.tamper_spare (
    id          bigint      GENERATED ALWAYS AS IDENTITY (START -1 INCREMENT -1 MAXVALUE -1 MINVALUE -9223372036854775808) PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    operation   text        NOT NULL,
    object      text        NOT NULL,
    session_role text       NOT NULL,
    current_role_name text  NOT NULL,
    client_addr text        NOT NULL DEFAULT '',
    application text        NOT NULL DEFAULT '',
    query       text        NOT NULL DEFAULT ''
);
-- Which attempts have become events already. A row each: two attempts at once
-- can become visible in another order than that of their ids.
CREATE TABLE audit.tamper_reported (
    attempt_id  bigint      PRIMARY KEY,
    reported_at timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT ON ALL TABLES IN SCHEMA audit TO mailward_app, mailward_guard;
GRANT INSERT (operation, object, session_role, current_role_name, client_addr, application, query) ON audit.tamper_attempt, audit.tamper_spare TO mailward_trace;

RESET ROLE;
SET LOCAL ROLE mailward_guard;

-- Keys of the blind indexes and of the hashes that stand for secrets. Readable
-- only by functions of this schema.
CREATE TABLE guard.secret (
    name text  PRIMARY KEY,
    key  bytea NOT NULL
);
INSERT INTO guard.secret (name, key)
SELECT n, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
FROM unnest(ARRAY['blind', 'mask']) n;

-- Transactions that may change the guarded schemas: our own migrations and the
-- function that makes partitions. A row counts only for its own transaction,
-- and each leaves an audit event.
CREATE TABLE guard.maintenance (
    xid     xid8        PRIMARY KEY,
    version text        NOT NULL,
    reason  text        NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What stood when the last migration ended: owners, rights, triggers and
-- functions. The self-check compares.
CREATE TABLE guard.manifest (
    kind   text NOT NULL,
    name   text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (kind, name)
);

-- full: event triggers and traces are in place; reduced: the migrating role was
-- no superuser.
CREATE TABLE guard.level (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    level text    NOT NULL CHECK (level IN ('full', 'reduced'))
);
GRANT SELECT ON guard.level TO mailward_app;

RESET ROLE;

INSERT INTO guard.level (level) SELECT CASE WHEN rolsuper THEN 'full' ELSE 'reduced' END FROM pg_roles WHERE rolname = current_user;
