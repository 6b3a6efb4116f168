-- +goose Up
-- Threat intelligence: indicators from feeds and people, what analysts say
-- about single ones, and how feeds fare. Indicators are of the installation.

SELECT audit.maintenance('0036', 'indicators of threat intelligence, overrides and feeds are stored');

SET LOCAL ROLE mailward_owner;

-- key is the first 8 bytes of a digest of kind and value: what a mail is looked
-- up by. The value is compared too.
CREATE TABLE indicator (
    key        bigint      NOT NULL,
    source     text        NOT NULL CHECK (source <> ''),
    kind       text        NOT NULL CHECK (kind IN ('domain', 'url', 'ip', 'email', 'sha256')),
    value      text        NOT NULL CHECK (value <> '' AND length(value) <= 2048),
    class      text        NOT NULL CHECK (class IN ('malware', 'phishing', 'spam', 'suspicious', 'breach')), -- breach: names a victim, and is never bad
    confidence smallint    NOT NULL CHECK (confidence BETWEEN 0 AND 100),
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    note       text        NOT NULL DEFAULT '',
    reference  text        NOT NULL DEFAULT '',
    origin     text        NOT NULL DEFAULT '', -- the value as its source writes it, where that is not ours
    added_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    added_xid  xid8        NOT NULL DEFAULT pg_current_xact_id(), -- never changed: new keys are found by it, however long their transaction took
    PRIMARY KEY (key, source)
) WITH (fillfactor = 90);
CREATE INDEX indicator_added_idx ON indicator (added_xid);
CREATE INDEX indicator_expires_idx ON indicator USING brin (expires_at);

-- How often one counted, kept apart so that a hit rewrites no indicator. told is
-- how many of the hits its source has heard of.
CREATE TABLE indicator_hit (
    key         bigint      NOT NULL,
    source      text        NOT NULL,
    hits        bigint      NOT NULL,
    told        bigint      NOT NULL DEFAULT 0,
    last_hit_at timestamptz NOT NULL,
    PRIMARY KEY (key, source)
);

CREATE TABLE intel_override (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        REFERENCES workspace (id), -- null: the installation
    effect       text        NOT NULL CHECK (effect IN ('allow', 'block')),
    kind         text        NOT NULL CHECK (kind IN ('domain', 'url', 'ip', 'email', 'sha256')),
    value        text        NOT NULL CHECK (value <> '' AND length(value) <= 2048),
    class        text        NOT NULL DEFAULT '' CHECK (class IN ('', 'malware', 'phishing', 'spam', 'suspicious')),
    owner        text        NOT NULL CHECK (owner <> ''),
    reason       text        NOT NULL CHECK (reason <> ''),
    expires_at   timestamptz,
    created_by   text        NOT NULL DEFAULT '',
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (effect = 'block' OR expires_at IS NOT NULL),
    CHECK ((effect = 'block') = (class <> ''))
);
CREATE INDEX intel_override_list_idx ON intel_override (id DESC);

-- One row a configured feed: when it is due, and who of many processes has it.
CREATE TABLE intel_feed (
    name          text        PRIMARY KEY,
    type          text        NOT NULL,
    due_at        timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    etag          text        NOT NULL DEFAULT '',
    modified      text        NOT NULL DEFAULT '',
    cursor        text        NOT NULL DEFAULT '', -- up to where an incremental feed was read
    last_good_at  timestamptz,
    last_run_at   timestamptz,
    rows          bigint      NOT NULL DEFAULT 0,  -- of the last complete answer
    error         text        NOT NULL DEFAULT '',
    code          text        NOT NULL DEFAULT '', -- of the error, for programs
    alarm         boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- What a list of MISP's warninglists calls harmless: it is never an indicator. A
-- list is always taken or replaced whole.
CREATE TABLE warninglist (
    feed       text        PRIMARY KEY,
    title      text        NOT NULL DEFAULT '',
    type       text        NOT NULL CHECK (type IN ('string', 'hostname', 'cidr')),
    version    bigint      NOT NULL DEFAULT 0,
    entries    text[]      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE feed_run (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed       text        NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL,
    state      text        NOT NULL CHECK (state IN ('ok', 'unchanged', 'refused', 'failed')),
    rows       bigint      NOT NULL DEFAULT 0, -- read
    added      bigint      NOT NULL DEFAULT 0,
    refused    bigint      NOT NULL DEFAULT 0, -- lines that are no indicators, or harmless
    bytes      bigint      NOT NULL DEFAULT 0,
    alarm      boolean     NOT NULL DEFAULT false,
    error      text        NOT NULL DEFAULT ''
);
CREATE INDEX feed_run_feed_idx ON feed_run (feed, id DESC);

RESET ROLE;

SELECT guard.record_table('intel_override', 'intel_override', 'id,workspace_id,effect,kind,class,reason,expires_at,version', '', 'value,owner,created_by', 'sec-3y', 'IUD');

CREATE TRIGGER mailward_notify AFTER INSERT OR DELETE ON indicator FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_intel');
CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON intel_override FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_intel');
CREATE TRIGGER mailward_notify AFTER UPDATE OF due_at ON intel_feed FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_feed');

GRANT SELECT, INSERT, UPDATE, DELETE ON indicator, indicator_hit, intel_override, intel_feed, warninglist TO mailward_app;
GRANT SELECT, INSERT, DELETE ON feed_run TO mailward_app;

SELECT guard.seal();
