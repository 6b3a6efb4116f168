-- +goose Up
-- What happens, counted: by every process, in stretches of ten seconds, five
-- minutes and an hour. Alerts and their plots are made of these.

SELECT audit.maintenance('0050', 'buckets of metrics');

SET LOCAL ROLE mailward_owner;

-- No mail, no person: counts of a domain or a component. A batch adds to all three
-- lengths at once, so that no roll-up can be late or done twice.
CREATE TABLE metric_bucket (
    metric       text             NOT NULL,
    step         smallint         NOT NULL CHECK (step IN (10, 300, 3600)), -- length in seconds
    at           timestamptz      NOT NULL, -- its begin
    workspace_id uuid             NOT NULL, -- zero: the installation
    subject      text             NOT NULL, -- a domain, a component, a node; empty: all
    slot         smallint         NOT NULL, -- of latencies: about how long
    count        bigint           NOT NULL,
    sum          double precision NOT NULL,
    max          double precision NOT NULL,
    PRIMARY KEY (metric, step, at, workspace_id, subject, slot)
);
CREATE INDEX metric_bucket_age_idx ON metric_bucket (step, at);

-- The last batch of each process: one that is sent again after a lost answer is
-- not counted twice.
CREATE TABLE metric_source (
    id         uuid        PRIMARY KEY,
    node       text        NOT NULL,
    batch      bigint      NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

RESET ROLE;

GRANT SELECT, INSERT, UPDATE, DELETE ON metric_bucket, metric_source TO mailward_app;

SELECT guard.seal();
