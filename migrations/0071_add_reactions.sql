-- +goose Up
-- Reactions: what a rule of alerts, or a person, has done for a time while something
-- is unusual. That one begins, is full or ends is on record; what it touched is not,
-- since each held mail has its own record.

SELECT audit.maintenance('0071', 'reactions of alert rules');

SET LOCAL ROLE mailward_owner;

CREATE TABLE alert_reaction (
    id            uuid        PRIMARY KEY, -- UUIDv7
    workspace_id  uuid        REFERENCES workspace (id), -- null: everywhere
    rule_id       uuid        REFERENCES alert_rule (id), -- null: begun without one
    alert_id      uuid        REFERENCES alert (id),
    episode       bigint,     -- of the alert, which begins it once; null: begun by a person
    kind          text        NOT NULL CHECK (kind IN ('lock', 'sandbox', 'tighten', 'pause')),
    dry_run       boolean     NOT NULL,
    domain        text        NOT NULL DEFAULT '' CHECK (length(domain) <= 255), -- of ours; empty: all
    direction     text        NOT NULL DEFAULT '' CHECK (direction IN ('', 'inbound', 'outbound')), -- empty: both
    match         text        NOT NULL DEFAULT '' CHECK (match IN ('', 'sender', 'sender_domain', 'subject')),
    value         text        NOT NULL DEFAULT '' CHECK (length(value) <= 320),
    divisor       integer     NOT NULL DEFAULT 1 CHECK (divisor BETWEEN 1 AND 100), -- limits are so many times tighter
    most          integer     NOT NULL CHECK (most BETWEEN 1 AND 10000), -- mails, refusals or releases
    cause         text        NOT NULL CHECK (length(cause) BETWEEN 1 AND 200), -- the rule's name, or the person's
    reason        text        NOT NULL CHECK (length(reason) BETWEEN 3 AND 500),
    author_id     uuid,       -- null: not an account
    author        text        NOT NULL,
    starts_at     timestamptz NOT NULL DEFAULT now(),
    ends_at       timestamptz NOT NULL,
    full_at       timestamptz, -- it has touched as much as it may
    ended_at      timestamptz,
    end_kind      text        CHECK (end_kind IN ('time', 'undo')),
    ended_by      text        NOT NULL DEFAULT '',
    ended_by_id   uuid,
    end_reason    text        NOT NULL DEFAULT '' CHECK (length(end_reason) <= 500),
    CHECK (ends_at > starts_at AND ends_at <= starts_at + interval '24 hours'),
    CHECK ((ended_at IS NULL) = (end_kind IS NULL)),
    CHECK ((match = '') = (value = '')),
    CHECK (kind <> 'lock' OR domain <> '' OR match <> '') -- never all mail there is
);
CREATE UNIQUE INDEX alert_reaction_episode_idx ON alert_reaction (alert_id, episode);
CREATE UNIQUE INDEX alert_reaction_same_idx ON alert_reaction (coalesce(workspace_id, '00000000-0000-0000-0000-000000000000'), kind, dry_run, domain, direction, match, value) WHERE ended_at IS NULL;
CREATE INDEX alert_reaction_rule_idx ON alert_reaction (rule_id, id DESC);

-- The mails that a reaction has touched, or would have.
CREATE TABLE alert_reaction_touch (
    reaction_id uuid        NOT NULL REFERENCES alert_reaction (id),
    thing_id    uuid        NOT NULL, -- a mail; of tightened limits a refusal
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (reaction_id, thing_id)
);
CREATE INDEX alert_reaction_touch_age_idx ON alert_reaction_touch (at);

RESET ROLE;

SELECT guard.record_table('alert_reaction', 'alert.reaction',
    'id,workspace_id,rule_id,alert_id,episode,kind,dry_run,domain,direction,match,divisor,most,cause,reason,author_id,starts_at,ends_at,full_at,ended_at,end_kind,ended_by_id,end_reason', '', 'value', 'sec-3y', 'IUD');

CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON alert_reaction FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_policy');

GRANT SELECT, INSERT ON alert_reaction TO mailward_app;
GRANT UPDATE (full_at, ended_at, end_kind, ended_by, ended_by_id, end_reason) ON alert_reaction TO mailward_app;
GRANT SELECT, INSERT, DELETE ON alert_reaction_touch TO mailward_app; -- past their time

SELECT guard.seal();
