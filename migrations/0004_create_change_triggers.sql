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

-- Who acts in this transaction: {actor, auth, email}. Only the runtime role's
-- claim is believed, and what it claims of a person is looked up; anybody else
-- is the database role that is logged in.
-- +goose StatementBegin
CREATE FUNCTION guard.actor() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c jsonb; u record; kind text;
BEGIN
    IF session_user <> 'mailward_app' THEN
        RETURN jsonb_build_object('actor', jsonb_build_object('type', 'database', 'id', '', 'display', session_user,
            'roles', jsonb_build_array(session_user, current_setting('role', true))), 'auth', jsonb_build_object('method', 'database'));
    END IF;
    BEGIN
        c := nullif(current_setting('mailward.claim', true), '')::jsonb;
    EXCEPTION WHEN OTHERS THEN c := NULL;
    END;
    kind := c ->> 'type';
    IF kind = 'system' AND coalesce(c ->> 'job', '') <> '' THEN
        RETURN jsonb_build_object('actor', jsonb_build_object('type', 'system', 'id', '', 'display', 'System', 'roles', '[]'::jsonb,
            'job', jsonb_build_object('name', c ->> 'job', 'trigger', c ->> 'cause')), 'auth', jsonb_build_object('method', 'none'));
    ELSIF kind = 'operator' AND coalesce(c ->> 'name', '') <> '' THEN
        RETURN jsonb_build_object('actor', jsonb_build_object('type', 'operator', 'id', '', 'display', c ->> 'name', 'roles', '[]'::jsonb),
            'auth', jsonb_build_object('method', 'os'));
    ELSIF kind = 'user' THEN
        IF c ->> 'session' IS NOT NULL THEN
            SELECT a.id, a.email, a.name, s.auth_method AS method, s.id AS credential INTO u
            FROM public.session s JOIN public.user_account a ON a.id = s.user_id WHERE s.id = (c ->> 'session')::uuid;
        ELSIF c ->> 'token' IS NOT NULL THEN
            SELECT a.id, a.email, a.name, 'token'::text AS method, t.id AS credential INTO u
            FROM public.api_token t JOIN public.user_account a ON a.id = t.owner_id WHERE t.id = (c ->> 'token')::uuid;
        END IF;
        IF u.id IS NOT NULL THEN
            RETURN jsonb_build_object('email', u.email, 'actor', jsonb_build_object('type', 'user', 'id', u.id, 'display', u.name,
                'roles', (SELECT coalesce(jsonb_agg(DISTINCT g.role), '[]') FROM public.role_grant g WHERE g.user_id = u.id)),
                'auth', jsonb_build_object('method', u.method, CASE u.method WHEN 'token' THEN 'credential_id' ELSE 'session_id' END, u.credential));
        END IF;
    END IF;
    RETURN jsonb_build_object('actor', jsonb_build_object('type', 'unknown', 'id', '', 'display', '', 'roles', '[]'::jsonb), 'auth', jsonb_build_object('method', 'none'));
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

-- The columns of a row that may be recorded: plain as they are, secret ones as
-- keyed hashes, personal ones as themselves for now (the caller commits to them).
-- +goose StatementBegin
CREATE FUNCTION guard.visible(r jsonb, plain text[], secret text[]) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(key, CASE WHEN key = ANY (secret)
        THEN to_jsonb('hmac:' || encode(guard.keyed_hash('mask', value #>> '{}'), 'hex')) ELSE value END), '{}')
    FROM jsonb_each(r) WHERE key = ANY (plain) OR key = ANY (secret)
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.visible(jsonb, text[], text[]) FROM PUBLIC;

-- Records one row change. Arguments: object (policy), columns, secret columns,
-- personal columns, retention class, and which operations count (IUD).
-- +goose StatementBegin
CREATE FUNCTION guard.record_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plain  text[] := string_to_array(TG_ARGV[1], ',');
    secret text[] := string_to_array(TG_ARGV[2], ',');
    person text[] := string_to_array(TG_ARGV[3], ',');
    r      jsonb  := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    old_v  jsonb; new_v jsonb; who jsonb := guard.actor(); x jsonb; ctx jsonb := '{}';
    pii    jsonb := '[]'; side text; col text; v jsonb; e jsonb; id uuid := guard.new_id(); label text;
BEGIN
    IF position(left(TG_OP, 1) IN TG_ARGV[5]) = 0 THEN RETURN NULL; END IF;
    IF TG_OP <> 'INSERT' THEN old_v := guard.visible(to_jsonb(OLD), plain || person, secret); END IF;
    IF TG_OP <> 'DELETE' THEN new_v := guard.visible(to_jsonb(NEW), plain || person, secret); END IF;
    IF old_v = new_v THEN RETURN NULL; END IF;

    FOREACH side IN ARRAY ARRAY['before', 'after'] LOOP
        v := CASE side WHEN 'before' THEN old_v ELSE new_v END;
        FOREACH col IN ARRAY person LOOP
            IF v ->> col IS NOT NULL THEN
                x := guard.commit_value('change.' || side || '.' || col, v ->> col);
                v := jsonb_set(v, ARRAY[col], x -> 'event');
                pii := pii || (x -> 'pii');
            END IF;
        END LOOP;
        IF side = 'before' THEN old_v := v; ELSE new_v := v; END IF;
    END LOOP;
    e := who -> 'actor';
    IF who ->> 'email' IS NOT NULL THEN
        x := guard.commit_value('actor.email', who ->> 'email');
        e := e || jsonb_build_object('email', x -> 'event');
        pii := pii || (x -> 'pii');
    END IF;
    IF session_user = 'mailward_app' THEN
        BEGIN
            ctx := coalesce(nullif(current_setting('mailward.context', true), '')::jsonb, '{}');
        EXCEPTION WHEN OTHERS THEN ctx := '{}';
        END;
    ELSE
        ctx := jsonb_build_object('application', coalesce(nullif(current_setting('application_name', true), ''), 'database'),
                                  'source_ip', host(inet_client_addr()));
    END IF;
    IF ctx ->> 'source_ip' IS NOT NULL THEN
        x := guard.commit_value('source.ip', ctx ->> 'source_ip');
        ctx := jsonb_set(ctx, '{source_ip}', x -> 'event');
        pii := pii || (x -> 'pii');
    END IF;
    label := CASE TG_TABLE_NAME WHEN 'setting' THEN r ->> 'key' WHEN 'policy' THEN r ->> 'domain' WHEN 'domain' THEN r ->> 'name' ELSE NULL END;
    e := jsonb_build_object(
        'schema', 'gw-audit/1', 'id', id, 'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'nonce', encode(uuid_send(gen_random_uuid()), 'hex'),
        'workspace_id', coalesce(r ->> 'workspace_id', CASE TG_TABLE_NAME WHEN 'workspace' THEN r ->> 'id' END),
        'category', TG_ARGV[0], 'action', TG_ARGV[0] || '.' || CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END,
        'phase', 'result', 'outcome', jsonb_build_object('result', 'success', 'code', 'OK'), 'severity', 'notice',
        'actor', e, 'auth', who -> 'auth', 'source', jsonb_build_object('ip', ctx -> 'source_ip'),
        'application', jsonb_build_object('name', ctx ->> 'application'),
        'request', jsonb_build_object('id', ctx ->> 'request_id', 'method', ctx ->> 'method', 'path', ctx ->> 'path'),
        'targets', jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('type', TG_TABLE_NAME, 'id', coalesce(r ->> 'id', r ->> 'key'), 'label', label)))
            || CASE WHEN r ->> 'item_id' IS NOT NULL THEN jsonb_build_array(jsonb_build_object('type', 'quarantine_item', 'id', r ->> 'item_id')) ELSE '[]' END,
        'change', jsonb_build_object('before', old_v, 'after', new_v),
        'reason', jsonb_build_object('text', ctx ->> 'reason'),
        'observer', jsonb_build_object('service', 'database', 'database_role', session_user, 'set_role', current_setting('role', true)),
        'class', jsonb_build_object('retention', TG_ARGV[4], 'contains_pii', pii <> '[]'));
    PERFORM audit.append(id, convert_to(e::text, 'UTF8'), pii);
    RETURN NULL;
END $$;
-- +goose StatementEnd
GRANT EXECUTE ON FUNCTION guard.record_change() TO PUBLIC;

-- +goose StatementBegin
CREATE FUNCTION guard.notify() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END $$;
-- +goose StatementEnd
GRANT EXECUTE ON FUNCTION guard.notify() TO PUBLIC;

RESET ROLE;

-- +goose StatementBegin
CREATE FUNCTION guard.record_table(t regclass, object text, plain text, secret text, person text, retention text, operations text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER mailward_record AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION guard.record_change(%L, %L, %L, %L, %L, %L)',
        t, object, plain, secret, person, retention, operations);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mailward_record', t);
    -- TRUNCATE fires no row trigger: without this it would leave no record.
    EXECUTE format('CREATE TRIGGER mailward_no_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()', t);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mailward_no_truncate', t);
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.record_table(regclass, text, text, text, text, text, text) FROM PUBLIC;

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

CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON domain FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_policy');
CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON policy FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_policy');
CREATE TRIGGER mailward_notify AFTER INSERT ON delivery FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_delivery');

-- What the running program may do. The ledger is only added to.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mailward_app;
GRANT INSERT ON ALL TABLES IN SCHEMA public TO mailward_app;
GRANT UPDATE ON setting, user_account, role_grant, session, api_token, domain, policy, quarantine_item, quarantine_recipient, release, delivery, health_state TO mailward_app;
GRANT DELETE ON setting, role_grant, domain, policy TO mailward_app;
REVOKE INSERT ON workspace FROM mailward_app;
