-- +goose Up
-- Row changes record themselves: whoever changes a policy, a right or the state
-- of a held mail leaves an event with the values before and after, also at psql.

GRANT SELECT ON user_account, role_grant, session, api_token, workspace TO mailward_guard;

SET LOCAL ROLE mailward_guard;

-- One personal value: the commitment for the event, and the value for audit.pii.
-- +goose StatementBegin
CREATE FUNCTION guard.commit_value(path text, value text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE salt bytea := uuid_send(gen_random_uuid());
BEGIN
    RETURN jsonb_build_object(
        'event', jsonb_build_object('c', 'sha256:' || encode(sha256(salt || convert_to(value, 'UTF8')), 'hex'), 'ref', 'pii:' || path),
        'pii', jsonb_build_object('path', path, 'value', value, 'salt', encode(salt, 'hex')));
END $$;
-- +goose StatementEnd

-- Text that a client set for this transaction, as JSON; {} where it set none.
-- +goose StatementBegin
CREATE FUNCTION guard.claimed(setting text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE v jsonb;
BEGIN
    v := nullif(current_setting(setting, true), '')::jsonb;
    RETURN CASE jsonb_typeof(v) WHEN 'object' THEN v ELSE '{}' END;
EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
END $$;
-- +goose StatementEnd

-- The person behind a session or a token, and how they showed who they are.
-- +goose StatementBegin
CREATE FUNCTION guard.person(c jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE u record;
BEGIN
    IF c ->> 'session' IS NOT NULL THEN
        SELECT a.id, a.email, a.name, s.auth_method AS method, s.id::text AS session_id, NULL::text AS token_id,
               (SELECT coalesce(jsonb_agg(DISTINCT g.role), '[]') FROM public.role_grant g WHERE g.user_id = a.id) AS roles INTO u
        FROM public.session s JOIN public.user_account a ON a.id = s.user_id WHERE s.id::text = lower(c ->> 'session');
    ELSE
        SELECT a.id, a.email, a.name, 'token'::text AS method, NULL::text AS session_id, t.id::text AS token_id,
               jsonb_build_array(t.role) AS roles INTO u
        FROM public.api_token t JOIN public.user_account a ON a.id = t.owner_id WHERE t.id::text = lower(c ->> 'token');
    END IF;
    IF u.id IS NULL THEN RETURN NULL; END IF;
    RETURN jsonb_build_object('email', u.email, 'actor', jsonb_build_object('type', 'user', 'id', u.id, 'display', u.name, 'roles', u.roles),
        'auth', jsonb_build_object('method', u.method, 'provider', 'local', 'session_id', u.session_id, 'credential_id', u.token_id));
END $$;
-- +goose StatementEnd

-- Who acts in this transaction: {actor, auth, email}. Only the runtime role's
-- claim is believed, and what it claims of a person is looked up; anybody else
-- is the database role that is logged in. An unknown identity is never System.
-- +goose StatementBegin
CREATE FUNCTION guard.actor() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE c jsonb; who jsonb; kind text; none jsonb := jsonb_build_object('method', 'none');
BEGIN
    IF session_user <> 'mailward_app' THEN
        RETURN jsonb_build_object('actor', jsonb_build_object('type', 'database', 'id', '', 'display', session_user,
            'roles', jsonb_build_array(session_user, guard.acting_role())), 'auth', jsonb_build_object('method', 'database'));
    END IF;
    c := guard.claimed('mailward.claim');
    kind := c ->> 'type';
    IF kind = 'system' AND coalesce(c ->> 'job', '') <> '' THEN
        RETURN jsonb_build_object('auth', none, 'actor', jsonb_build_object('type', kind, 'display', 'System',
            'job', jsonb_build_object('name', c ->> 'job', 'trigger', c ->> 'cause')));
    ELSIF kind = 'operator' AND coalesce(c ->> 'name', '') <> '' THEN
        RETURN jsonb_build_object('auth', jsonb_build_object('method', 'os'), 'actor', jsonb_build_object('type', kind, 'display', c ->> 'name'));
    ELSIF kind IN ('service', 'recipient', 'anonymous') THEN
        RETURN jsonb_build_object('auth', none, 'actor', jsonb_build_object('type', kind, 'display', coalesce(c ->> 'name', '')));
    ELSIF kind = 'user' THEN
        who := guard.person(c);
    END IF;
    RETURN coalesce(who, jsonb_build_object('auth', none, 'actor', jsonb_build_object('type', 'unknown')));
END $$;
-- +goose StatementEnd

-- What the act came with: a request and a reason from the program, or else the
-- connection itself.
-- +goose StatementBegin
CREATE FUNCTION guard.act_context() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF session_user = 'mailward_app' THEN RETURN guard.claimed('mailward.context'); END IF;
    RETURN jsonb_build_object('application', coalesce(nullif(current_setting('application_name', true), ''), 'database'),
                              'source_ip', host(inet_client_addr()));
END $$;
-- +goose StatementEnd

-- A UUIDv7 (RFC 9562 §5.7) of now.
-- +goose StatementBegin
CREATE FUNCTION guard.new_id() RETURNS uuid LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (left(x, 12) || '7' || substr(x, 14, 3) || substr('89ab', 1 + (ascii(substr(x, 17, 1)) % 4), 1) || substr(x, 18))::uuid
    FROM (SELECT lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
               || substr(replace(gen_random_uuid()::text, '-', ''), 13) AS x) t
$$;
-- +goose StatementEnd

-- Writes one event of the database itself. p has: action, retention, severity,
-- workspace_id, targets, change, reason (code, text), pii (values that change
-- commits to). The fields are those of the events that the program writes.
-- +goose StatementBegin
CREATE FUNCTION guard.record(p jsonb) RETURNS uuid
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
        'application', jsonb_build_object('name', ctx -> 'application', 'version', NULL, 'client_id', NULL),
        'request', jsonb_build_object('id', ctx -> 'request_id', 'method', ctx -> 'method', 'path', ctx -> 'path', 'status', NULL, 'duration_ms', NULL),
        'correlation', jsonb_build_object('trace_id', NULL, 'incident_id', NULL, 'alert_id', NULL, 'causation_id', NULL, 'mail_id', NULL, 'item_id', NULL),
        'targets', p -> 'targets', 'change', p -> 'change', 'approval', NULL,
        'reason', jsonb_build_object('code', p #> '{reason,code}', 'text', coalesce(p #> '{reason,text}', ctx -> 'reason'), 'ticket', NULL, 'legal_basis', NULL, 'emergency', NULL),
        'observer', jsonb_build_object('service', 'database', 'instance', current_database(), 'build', current_setting('server_version'), 'host_id', NULL,
            'database_role', session_user, 'set_role', guard.acting_role()),
        'class', jsonb_build_object('retention', p ->> 'retention', 'contains_pii', pii <> '[]', 'tlp', NULL));
    PERFORM audit.append(id, convert_to(e::text, 'UTF8'), pii);
    RETURN id;
END $$;
-- +goose StatementEnd

-- The columns of a row that may be recorded: plain as they are, secret ones as
-- keyed hashes.
-- +goose StatementBegin
CREATE FUNCTION guard.visible(r jsonb, plain text[], secret text[]) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(key, CASE WHEN key = ANY (secret)
        THEN to_jsonb('hmac:' || encode(guard.keyed_hash('mask', value #>> '{}'), 'hex')) ELSE value END), '{}')
    FROM jsonb_each(r) WHERE key = ANY (plain) OR key = ANY (secret)
$$;
-- +goose StatementEnd

-- Names of what differs, one level into objects: ["actions.spam", "version"].
-- +goose StatementBegin
CREATE FUNCTION guard.diff(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH flat AS (
        SELECT side, t.key || coalesce('.' || s.key, '') AS name, coalesce(s.value, t.value) AS value
        FROM (VALUES ('a', a), ('b', b)) x(side, v), jsonb_each(coalesce(x.v, '{}')) t
        LEFT JOIN LATERAL jsonb_each(CASE jsonb_typeof(t.value) WHEN 'object' THEN t.value ELSE '{}' END) s ON true
    )
    SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM (
        SELECT coalesce(l.name, r.name) AS name FROM (SELECT * FROM flat WHERE side = 'a') l
        FULL JOIN (SELECT * FROM flat WHERE side = 'b') r ON l.name = r.name
        WHERE l.value IS DISTINCT FROM r.value) d
$$;
-- +goose StatementEnd

-- Replaces the personal columns of one side of a change by commitments: {row, pii}.
-- +goose StatementBegin
CREATE FUNCTION guard.commit_row(r jsonb, person text[], side text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE col text; x jsonb; pii jsonb := '[]';
BEGIN
    FOREACH col IN ARRAY person LOOP
        IF coalesce(r ->> col, '') <> '' THEN
            x := guard.commit_value('change.' || side || '.' || col, r ->> col);
            r := jsonb_set(r, ARRAY[col], x -> 'event');
            pii := pii || (x -> 'pii');
        END IF;
    END LOOP;
    RETURN jsonb_build_object('row', r, 'pii', pii);
END $$;
-- +goose StatementEnd

-- Records one row change. Arguments: object (policy), columns, secret columns,
-- personal columns, retention class, and which operations count (IUD). Columns
-- that are not named are never recorded.
-- +goose StatementBegin
CREATE FUNCTION guard.record_change() RETURNS trigger
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
            'before_sha256', NULL, 'after_sha256', NULL, 'object_version', r -> 'version')));
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Records that the guarded schemas were opened, however it was done.
-- +goose StatementBegin
CREATE FUNCTION guard.record_maintenance() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guard.record(jsonb_build_object('action', 'guard.maintenance', 'retention', 'sec-3y', 'workspace_id', NULL,
        'severity', CASE NEW.version WHEN 'partitions' THEN 'notice' ELSE 'warning' END,
        'targets', jsonb_build_array(jsonb_build_object('type', 'schema', 'id', 'audit', 'label', NULL)),
        'change', jsonb_build_object('before', NULL, 'after', NULL, 'diff', '[]'::jsonb, 'before_sha256', NULL, 'after_sha256', NULL, 'object_version', NEW.version),
        'reason', jsonb_build_object('code', NEW.version, 'text', NEW.reason)));
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION guard.notify() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END $$;
-- +goose StatementEnd

RESET ROLE;

-- +goose StatementBegin
CREATE FUNCTION guard.record_table(t regclass, object text, plain text, secret text, person text, retention text, operations text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER mailward_record AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION guard.record_change(%L, %L, %L, %L, %L, %L)',
        t, object, plain, secret, person, retention, operations);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mailward_record', t);
    -- TRUNCATE fires no row trigger: without this it would leave no record.
    PERFORM guard.add_trigger(t, 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');
END $$;
-- +goose StatementEnd

SELECT guard.record_table('workspace', 'workspace', 'id,name', '', '', 'sec-3y', 'IUD'),
       guard.record_table('setting', 'setting', 'key,value', '', '', 'sec-3y', 'IUD'),
       guard.record_table('user_account', 'user', 'id,state,must_change_password,created_by', 'password_hash', 'email,name', 'sec-3y', 'IUD'),
       guard.record_table('role_grant', 'role', 'id,user_id,workspace_id,role,granted_by', '', '', 'sec-3y', 'IUD'),
       guard.record_table('api_token', 'token', 'id,workspace_id,name,role,owner_id,expires_at,revoked_at', 'token_hash', '', 'sec-3y', 'IUD'),
       guard.record_table('domain', 'domain', 'id,workspace_id,name,next_hop,enabled,version', '', '', 'sec-3y', 'IUD'),
       guard.record_table('policy', 'policy', 'id,workspace_id,domain,direction,actions,version', '', '', 'sec-3y', 'IUD'),
       guard.record_table('quarantine_recipient', 'quarantine.recipient', 'id,item_id,state,reply_code', '', 'address', 'sec-3y', 'UD'),
       guard.record_table('quarantine_item', 'quarantine.item', 'id,class,expires_at,blob_removed_at', '', '', 'sec-3y', 'UD'),
       guard.record_table('release', 'release', 'id,item_id,recipient_ids,intent_event_id,requested_by,reason,mode,state', '', '', 'sec-3y', 'IUD'),
       guard.record_table('approval', 'approval', 'id,subject_type,subject_id,requested_by,approver_id,decision,event_id', '', '', 'sec-3y', 'IUD');

CREATE TRIGGER mailward_record AFTER INSERT ON guard.maintenance FOR EACH ROW EXECUTE FUNCTION guard.record_maintenance();
ALTER TABLE guard.maintenance ENABLE ALWAYS TRIGGER mailward_record;

CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON domain FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_policy');
CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON policy FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_policy');
CREATE TRIGGER mailward_notify AFTER INSERT ON delivery FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_delivery');

-- What the running program may do. The ledger, releases and approvals are only
-- added to; nothing that is a record is ever deleted.
GRANT SELECT ON workspace, setting, user_account, role_grant, session, api_token, domain, policy, mail, mail_outcome,
    quarantine_item, quarantine_recipient, release, approval, delivery, health_state TO mailward_app;
GRANT INSERT ON setting, user_account, role_grant, session, api_token, domain, policy, mail, mail_outcome,
    quarantine_item, quarantine_recipient, release, approval, delivery, health_state TO mailward_app;
GRANT UPDATE ON setting, user_account, role_grant, session, api_token, domain, policy, quarantine_item, quarantine_recipient, release, delivery, health_state TO mailward_app;
GRANT DELETE ON setting, role_grant, domain, policy TO mailward_app;
