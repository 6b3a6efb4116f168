-- +goose Up
-- Incidents: what happened, who decided whether it is significant, and which
-- reports were handed in. Reports and notes are only added to: a correction is a
-- version of its own.

SELECT audit.maintenance('0091', 'incidents, their reports, notes and mails');

SET LOCAL ROLE mailward_owner;

CREATE TABLE incident (
    id                   uuid        PRIMARY KEY,
    workspace_id         uuid        NOT NULL REFERENCES workspace (id),
    number               text        NOT NULL CHECK (number <> ''), -- INC-2026-0001
    title                text        NOT NULL CHECK (title <> ''),
    severity             text        NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    state                text        NOT NULL CHECK (state IN ('open', 'contained', 'closed')),
    exercise             boolean     NOT NULL,
    owner_id             uuid        REFERENCES user_account (id),
    regime               text        NOT NULL CHECK (regime IN ('bsig', 'cir2690', 'kritis')),
    trust_service        boolean     NOT NULL,
    detected_at          timestamptz NOT NULL, -- first signal
    aware_at             timestamptz,          -- a person knew that it is significant, or may be; NULL: nobody does
    aware_unconfirmed_at timestamptz,          -- another time of that, which nobody has confirmed
    breach_aware_at      timestamptz,          -- of personal data
    requested_for        timestamptz,          -- date that the authority set for an intermediate report
    contained_at         timestamptz,
    closed_at            timestamptz CHECK ((closed_at IS NOT NULL) = (state = 'closed')),
    significant          text        NOT NULL CHECK (significant IN ('undecided', 'yes', 'no')),
    significant_reason   text        NOT NULL DEFAULT '' CHECK (significant = 'undecided' OR significant_reason <> ''),
    significant_at       timestamptz,
    significant_by       uuid        REFERENCES user_account (id),
    facts                jsonb       NOT NULL CHECK (jsonb_typeof(facts) = 'object'), -- what reports say, by field
    version              bigint      NOT NULL DEFAULT 1,
    created_by           uuid        REFERENCES user_account (id), -- NULL: a command on the host
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workspace_id, number)
);
CREATE INDEX incident_list_idx ON incident (created_at DESC, id DESC);
CREATE INDEX incident_open_idx ON incident (workspace_id) WHERE state <> 'closed';

CREATE TABLE incident_stage (
    id             uuid        PRIMARY KEY,
    incident_id    uuid        NOT NULL REFERENCES incident (id),
    workspace_id   uuid        NOT NULL REFERENCES workspace (id),
    stage          text        NOT NULL CHECK (stage IN ('early_warning', 'notification', 'intermediate', 'final', 'progress', 'final_after_progress', 'gdpr33')),
    version        integer     NOT NULL CHECK (version > 0),
    supersedes     uuid        REFERENCES incident_stage (id),
    state          text        NOT NULL CHECK (state IN ('submitted', 'not_required', 'withdrawn')), -- withdrawn: what the version before says is not so
    submitted_at   timestamptz CHECK ((submitted_at IS NOT NULL) = (state = 'submitted')),
    channel        text        NOT NULL DEFAULT '',
    reference      text        NOT NULL DEFAULT '', -- of the authority
    reason         text        NOT NULL DEFAULT '' CHECK (state = 'submitted' AND version = 1 OR reason <> ''),
    content        bytea,                           -- the report as it was then, JSON
    content_sha256 text        NOT NULL DEFAULT '' CHECK ((content IS NOT NULL) = (content_sha256 <> '')),
    created_by     uuid        REFERENCES user_account (id),
    created_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (incident_id, stage, version)
);

CREATE TABLE incident_note (
    id           uuid        PRIMARY KEY,
    incident_id  uuid        NOT NULL REFERENCES incident (id),
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    kind         text        NOT NULL CHECK (kind IN ('note', 'containment', 'eradication', 'recovery', 'communication', 'lesson')),
    at           timestamptz NOT NULL, -- when it happened
    text         text        NOT NULL CHECK (text <> ''),
    created_by   uuid        REFERENCES user_account (id),
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX incident_note_idx ON incident_note (incident_id, at);

CREATE TABLE incident_mail (
    id           uuid        PRIMARY KEY,
    incident_id  uuid        NOT NULL REFERENCES incident (id),
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    mail_id      uuid        NOT NULL, -- in the ledger, whose partitions end before an incident does
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (incident_id, mail_id)
);
CREATE INDEX incident_mail_idx ON incident_mail (mail_id);

RESET ROLE;

SET LOCAL ROLE mailward_guard;

-- Records one row change: see 0004 and 0030. What belongs to an incident names it,
-- so that it stands in its timeline; a mail of an incident stands in the mail's, too.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.record_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    secret text[] := string_to_array(TG_ARGV[2], ',');
    person text[] := string_to_array(TG_ARGV[3], ',');
    shown  text[] := string_to_array(TG_ARGV[1], ',') || person;
    r      jsonb  := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    old_v  jsonb; new_v jsonb; before jsonb; after jsonb; targets jsonb;
BEGIN
    IF position(left(TG_OP, 1) IN TG_ARGV[5]) = 0 THEN RETURN NULL; END IF;
    IF TG_OP <> 'INSERT' THEN old_v := guard.visible(to_jsonb(OLD), shown, secret); END IF;
    IF TG_OP <> 'DELETE' THEN new_v := guard.visible(to_jsonb(NEW), shown, secret); END IF;
    IF old_v = new_v THEN RETURN NULL; END IF;
    before := guard.commit_row(old_v, person, 'before');
    after := guard.commit_row(new_v, person, 'after');
    targets := jsonb_build_array(jsonb_build_object('type', TG_TABLE_NAME, 'id', coalesce(r ->> 'id', r ->> 'key'),
        'label', CASE TG_TABLE_NAME WHEN 'setting' THEN r ->> 'key' WHEN 'policy' THEN r ->> 'domain' WHEN 'domain' THEN r ->> 'name' WHEN 'workspace' THEN r ->> 'name' WHEN 'incident' THEN r ->> 'number' END));
    IF r ->> 'item_id' IS NOT NULL THEN
        targets := targets || jsonb_build_object('type', 'quarantine_item', 'id', r ->> 'item_id', 'label', NULL);
    END IF;
    IF r ->> 'incident_id' IS NOT NULL THEN
        targets := targets || jsonb_build_object('type', 'incident', 'id', r ->> 'incident_id', 'label', NULL);
        IF TG_TABLE_NAME = 'incident_mail' THEN
            targets := targets || jsonb_build_object('type', 'mail', 'id', r ->> 'mail_id', 'label', NULL);
        END IF;
    END IF;
    PERFORM guard.record(jsonb_build_object(
        'action', TG_ARGV[0] || CASE TG_OP WHEN 'INSERT' THEN '.create' WHEN 'UPDATE' THEN '.update' ELSE '.delete' END,
        'retention', TG_ARGV[4], 'workspace_id', CASE TG_TABLE_NAME WHEN 'workspace' THEN r -> 'id' ELSE r -> 'workspace_id' END,
        'targets', targets, 'pii', (before -> 'pii') || (after -> 'pii'),
        'change', jsonb_build_object('before', before -> 'row', 'after', after -> 'row', 'diff', guard.diff(old_v, new_v),
            'before_sha256', CASE WHEN old_v IS NOT NULL THEN encode(sha256(convert_to((before -> 'row')::text, 'UTF8')), 'hex') END,
            'after_sha256', CASE WHEN new_v IS NOT NULL THEN encode(sha256(convert_to((after -> 'row')::text, 'UTF8')), 'hex') END,
            'object_version', r -> 'version')));
    RETURN NULL;
END $$;
-- +goose StatementEnd

RESET ROLE;

-- What reports say and what is noted can name people: the bytes of events have
-- commitments to it (0089).
SELECT guard.record_table('incident', 'incident', 'id,workspace_id,number,title,severity,state,exercise,owner_id,regime,trust_service,detected_at,aware_at,aware_unconfirmed_at,breach_aware_at,requested_for,contained_at,closed_at,significant,significant_reason,significant_at,significant_by,version', '', 'facts', 'incident', 'IUD'),
       guard.record_table('incident_stage', 'incident.report', 'id,workspace_id,incident_id,stage,version,supersedes,state,submitted_at,channel,reference,reason,content_sha256', '', '', 'incident', 'IUD'),
       guard.record_table('incident_note', 'incident.note', 'id,workspace_id,incident_id,kind,at', '', 'text', 'incident', 'IUD'),
       guard.record_table('incident_mail', 'incident.mail', 'id,workspace_id,incident_id,mail_id', '', '', 'incident', 'IUD');

GRANT SELECT, INSERT, UPDATE ON incident TO mailward_app;
GRANT SELECT, INSERT ON incident_stage, incident_note TO mailward_app;
GRANT SELECT, INSERT, DELETE ON incident_mail TO mailward_app;

SELECT guard.seal();
