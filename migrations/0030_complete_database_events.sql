-- +goose Up
-- Events that the database writes have the same fields as those of the program,
-- filled where the database knows them: hashes of both sides of a change, the
-- trace, the client, the ticket and the rest of a reason.

SELECT audit.maintenance('0030', 'events of row changes say all that the canonical event asks for');

SET LOCAL ROLE mailward_guard;

-- Writes one event of the database itself: see 0004.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.record(p jsonb) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid := guard.new_id(); who jsonb := guard.actor(); ctx jsonb := guard.act_context();
    pii jsonb := coalesce(p -> 'pii', '[]'); email jsonb; ip jsonb; e jsonb;
BEGIN
    IF who ->> 'email' IS NOT NULL THEN
        email := guard.commit_value('actor.email', who ->> 'email');
        pii := pii || (email -> 'pii');
    END IF;
    IF ctx ->> 'source_ip' IS NOT NULL THEN
        ip := guard.commit_value('source.ip', ctx ->> 'source_ip');
        pii := pii || (ip -> 'pii');
    END IF;
    e := jsonb_build_object(
        'schema', 'gw-audit/1', 'id', id, 'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'clock', NULL, 'nonce', encode(uuid_send(gen_random_uuid()), 'hex'), 'workspace_id', p -> 'workspace_id',
        'category', split_part(p ->> 'action', '.', 1), 'action', p ->> 'action', 'phase', 'result',
        'outcome', jsonb_build_object('result', 'success', 'code', 'OK', 'detail', NULL), 'severity', coalesce(p ->> 'severity', 'notice'),
        'actor', jsonb_build_object('id', '', 'display', '', 'roles', '[]'::jsonb, 'job', NULL, 'on_behalf_of', NULL, 'email', email -> 'event') || (who -> 'actor'),
        'auth', jsonb_build_object('provider', NULL, 'protocol', NULL, 'issuer', NULL, 'mfa', NULL, 'session_id', NULL, 'credential_id', NULL) || (who -> 'auth'),
        'source', jsonb_build_object('ip', ip -> 'event', 'user_agent_class', ctx -> 'user_agent_class', 'trusted_proxy', NULL),
        'application', jsonb_build_object('name', ctx -> 'application', 'version', NULL, 'client_id', ctx -> 'client_id'),
        'request', jsonb_build_object('id', ctx -> 'request_id', 'method', ctx -> 'method', 'path', ctx -> 'path', 'status', NULL, 'duration_ms', NULL),
        'correlation', jsonb_build_object('trace_id', ctx -> 'trace_id', 'incident_id', NULL, 'alert_id', NULL, 'causation_id', NULL, 'mail_id', NULL, 'item_id', NULL),
        'targets', p -> 'targets', 'change', p -> 'change', 'approval', NULL,
        'reason', jsonb_build_object('code', coalesce(p #> '{reason,code}', ctx -> 'reason_code'), 'text', coalesce(p #> '{reason,text}', ctx -> 'reason'),
            'ticket', ctx -> 'ticket', 'legal_basis', ctx -> 'legal_basis', 'emergency', coalesce(ctx -> 'emergency', 'false')),
        'observer', jsonb_build_object('service', 'database', 'instance', current_database(), 'build', current_setting('server_version'), 'host_id', NULL,
            'database_role', session_user, 'set_role', guard.acting_role()),
        'class', jsonb_build_object('retention', p ->> 'retention', 'contains_pii', pii <> '[]', 'tlp', 'AMBER'));
    PERFORM audit.append(id, convert_to(e::text, 'UTF8'), pii);
    RETURN id;
END $$;
-- +goose StatementEnd

-- Records one row change: see 0004.
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
        'label', CASE TG_TABLE_NAME WHEN 'setting' THEN r ->> 'key' WHEN 'policy' THEN r ->> 'domain' WHEN 'domain' THEN r ->> 'name' WHEN 'workspace' THEN r ->> 'name' END));
    IF r ->> 'item_id' IS NOT NULL THEN
        targets := targets || jsonb_build_object('type', 'quarantine_item', 'id', r ->> 'item_id', 'label', NULL);
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

SELECT guard.seal();
