-- +goose Up
-- What the checks of components have seen, and which engines have proven that they
-- detect. Minutes are kept for 30 days, hours and changes for 13 months.

SELECT audit.maintenance('0070', 'history of health and proofs of detection');

SET LOCAL ROLE mailward_owner;

-- A process writes one row a minute and component, which it may send again: the row
-- with more checks stands.
CREATE TABLE health_minute (
    component text        NOT NULL,
    at        timestamptz NOT NULL, -- its begin
    node      text        NOT NULL,
    checks    integer     NOT NULL CHECK (checks > 0),
    good      integer     NOT NULL, -- up
    slow      integer     NOT NULL, -- degraded
    bad       integer     NOT NULL, -- down or not authorised; the rest of the checks could not tell
    worst     text        NOT NULL,
    p50       real        NOT NULL, -- of latency, in milliseconds
    p95       real        NOT NULL,
    PRIMARY KEY (component, at, node)
);
CREATE INDEX health_minute_age_idx ON health_minute (at);

-- Hours are made of minutes: p50 is the median of theirs, p95 the 95th percentile of theirs.
CREATE TABLE health_hour (
    component text        NOT NULL,
    at        timestamptz NOT NULL,
    checks    integer     NOT NULL,
    good      integer     NOT NULL,
    slow      integer     NOT NULL,
    bad       integer     NOT NULL,
    worst     text        NOT NULL,
    p50       real        NOT NULL,
    p95       real        NOT NULL,
    PRIMARY KEY (component, at)
);
CREATE INDEX health_hour_age_idx ON health_hour (at);

CREATE TABLE health_change (
    id        uuid        PRIMARY KEY, -- UUIDv7
    component text        NOT NULL,
    node      text        NOT NULL,
    at        timestamptz NOT NULL,
    before    text        NOT NULL,
    state     text        NOT NULL,
    code      text        NOT NULL,
    reason    text        NOT NULL
);
CREATE INDEX health_change_component_idx ON health_change (component, at DESC);
CREATE INDEX health_change_age_idx ON health_change (at);

CREATE TABLE detection_proof (
    engine    text        NOT NULL,
    node      text        NOT NULL,
    tried_at  timestamptz NOT NULL,
    detected  boolean     NOT NULL,
    answered  boolean     NOT NULL,
    detail    text        NOT NULL,
    proven_at timestamptz, -- null: never
    PRIMARY KEY (engine, node)
);

RESET ROLE;

GRANT SELECT, INSERT, UPDATE, DELETE ON health_minute, health_hour TO mailward_app;
GRANT SELECT, INSERT, DELETE ON health_change TO mailward_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON detection_proof TO mailward_app;

SELECT guard.seal();
