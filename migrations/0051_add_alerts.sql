-- +goose Up
-- Alerts: rules with their versions, channels, silences and acknowledgements,
-- which are on record; and what the evaluation remembers, which is not.

SELECT audit.maintenance('0051', 'alert rules, channels, silences and the state of alerts');

SET LOCAL ROLE mailward_owner;

CREATE TABLE alert_channel (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        REFERENCES workspace (id), -- null: the installation's
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    kind         text        NOT NULL CHECK (kind IN ('email', 'slack', 'teams', 'webhook', 'wazuh', 'syslog', 'pagerduty')),
    target       text        NOT NULL DEFAULT '' CHECK (length(target) <= 2000), -- addresses, or where to; never a secret
    secret       text        NOT NULL DEFAULT '' CHECK (length(secret) <= 100),  -- its name in the configuration
    language     text        NOT NULL DEFAULT 'en' CHECK (language IN ('en', 'de')),
    everything   boolean     NOT NULL DEFAULT false, -- also alerts of rules that name no channel
    severity     text        NOT NULL DEFAULT 'info' CHECK (severity IN ('info', 'warn', 'critical')), -- the mildest that it takes
    per_minute   integer     NOT NULL DEFAULT 6 CHECK (per_minute BETWEEN 1 AND 600),
    enabled      boolean     NOT NULL DEFAULT true,
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz
);
CREATE UNIQUE INDEX alert_channel_name_idx ON alert_channel (coalesce(workspace_id, '00000000-0000-0000-0000-000000000000'), lower(name)) WHERE deleted_at IS NULL;

-- A rule that is deleted stays as a row, since its history names it.
CREATE TABLE alert_rule (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        REFERENCES workspace (id), -- null: the installation's, over all
    pack         text        UNIQUE,                    -- its name in the default pack
    enabled      boolean     NOT NULL DEFAULT true,
    number       integer     NOT NULL DEFAULT 1,        -- of the version in use
    spec         jsonb       NOT NULL CHECK (octet_length(spec::text) <= 65536),
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz
);

CREATE TABLE alert_rule_version (
    rule_id    uuid        NOT NULL REFERENCES alert_rule (id),
    number     integer     NOT NULL CHECK (number > 0),
    spec       jsonb       NOT NULL,
    reason     text        NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    author_id  uuid,       -- null: not an account
    author     text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rule_id, number)
);

CREATE TABLE alert_silence (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        REFERENCES workspace (id), -- null: everywhere
    rule_id      uuid        REFERENCES alert_rule (id), -- null: all rules
    subject      text        NOT NULL DEFAULT '' CHECK (length(subject) <= 255), -- empty: all
    reason       text        NOT NULL CHECK (length(reason) BETWEEN 3 AND 500),
    author_id    uuid,
    author       text        NOT NULL,
    starts_at    timestamptz NOT NULL DEFAULT now(),
    ends_at      timestamptz NOT NULL,
    ended_at     timestamptz, -- before its time
    CHECK (ends_at > starts_at AND ends_at <= starts_at + interval '90 days')
);
CREATE INDEX alert_silence_end_idx ON alert_silence (ends_at) WHERE ended_at IS NULL;

-- One row for each rule and domain or component that was ever more than calm.
CREATE TABLE alert (
    id           uuid             PRIMARY KEY,
    rule_id      uuid             NOT NULL REFERENCES alert_rule (id),
    workspace_id uuid             NOT NULL, -- zero: the installation
    subject      text             NOT NULL,
    number       integer          NOT NULL, -- of the rule
    phase        text             NOT NULL CHECK (phase IN ('inactive', 'pending', 'firing', 'resolved', 'no_data', 'error')),
    since        timestamptz      NOT NULL,
    seen         timestamptz      NOT NULL,
    value        double precision, -- null: none
    usual        double precision,
    episode      bigint           NOT NULL,
    fired_at     timestamptz,
    notified_at  timestamptz,
    alarmed      boolean          NOT NULL,
    acked        boolean          NOT NULL,
    silent       text             NOT NULL,
    muted        boolean          NOT NULL,
    UNIQUE (rule_id, workspace_id, subject)
);

CREATE TABLE alert_ack (
    id           uuid        PRIMARY KEY,
    alert_id     uuid        NOT NULL REFERENCES alert (id),
    workspace_id uuid,
    episode      bigint      NOT NULL,
    note         text        NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    author_id    uuid,
    author       text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (alert_id, episode)
);

-- Every change of phase, with the value that made it.
CREATE TABLE alert_event (
    id       uuid             PRIMARY KEY, -- UUIDv7
    alert_id uuid             NOT NULL REFERENCES alert (id),
    at       timestamptz      NOT NULL,
    phase    text             NOT NULL,
    before   text             NOT NULL,
    value    double precision,
    number   integer          NOT NULL,
    episode  bigint           NOT NULL,
    late     boolean          NOT NULL DEFAULT false -- made up for after a pause of the evaluation
);
CREATE INDEX alert_event_alert_idx ON alert_event (alert_id, at DESC);
CREATE INDEX alert_event_at_idx ON alert_event (at);

-- What goes out, and what became of it: the log of each channel.
CREATE TABLE alert_notification (
    id         uuid        PRIMARY KEY, -- UUIDv7; stays the same over all tries
    channel_id uuid        NOT NULL REFERENCES alert_channel (id),
    message    jsonb       NOT NULL,
    state      text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'failed')),
    tries      integer     NOT NULL DEFAULT 0,
    error      text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    tried_at   timestamptz,
    ended_at   timestamptz
);
CREATE INDEX alert_notification_channel_idx ON alert_notification (channel_id, id DESC);
CREATE INDEX alert_notification_age_idx ON alert_notification (created_at);

-- Up to when everything is evaluated. Who moves it on from another time than they
-- began at has been overtaken.
CREATE TABLE alert_clock (
    one       boolean     PRIMARY KEY DEFAULT true CHECK (one),
    evaluated timestamptz NOT NULL,
    node      text        NOT NULL,
    took_ms   integer     NOT NULL
);

RESET ROLE;

SELECT guard.record_table('alert_channel', 'alert.channel', 'id,workspace_id,name,kind,secret,language,everything,severity,per_minute,enabled,version,deleted_at', '', 'target', 'sec-3y', 'IUD'),
       guard.record_table('alert_rule', 'alert.rule', 'id,workspace_id,pack,enabled,number,spec,version,deleted_at', '', '', 'sec-3y', 'IUD'),
       guard.record_table('alert_silence', 'alert.silence', 'id,workspace_id,rule_id,subject,reason,author_id,starts_at,ends_at,ended_at', '', '', 'sec-3y', 'IUD'),
       guard.record_table('alert_ack', 'alert.ack', 'id,alert_id,episode,note,author_id', '', '', 'sec-3y', 'IUD');

GRANT SELECT, INSERT, UPDATE ON alert_channel, alert_rule, alert_silence, alert, alert_notification, alert_clock TO mailward_app;
GRANT SELECT, INSERT ON alert_rule_version, alert_ack, alert_event TO mailward_app;
GRANT DELETE ON alert_notification, alert_event TO mailward_app; -- past their time

SELECT guard.seal();
