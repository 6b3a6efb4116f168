-- +goose Up
-- The record after an attack on it: what its guards did not see, and what of persons
-- stood in the bytes of events, where nothing can be erased.

SELECT audit.maintenance('0089', 'guards see tables that leave their schema, languages that go, and what was changed back; names of people leave the bytes of events');

SET LOCAL ROLE mailward_guard;

-- Whose login this connection is. SET SESSION AUTHORIZATION, which a superuser can do,
-- changes session_user, and not this.
-- +goose StatementBegin
CREATE FUNCTION guard.login_role() RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT r.rolname::text FROM pg_stat_get_activity(pg_backend_pid()) a JOIN pg_roles r ON r.oid = a.usesysid), session_user::text);
END $$;
-- +goose StatementEnd

-- Who acts in this transaction: see 0004 and 0084. Who became the program's role has not
-- logged in as it, and is not believed.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.actor() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE c jsonb; who jsonb; kind text; none jsonb := jsonb_build_object('method', 'none');
BEGIN
    IF session_user <> 'mailward_app' OR guard.login_role() <> 'mailward_app' THEN
        RETURN jsonb_build_object('actor', jsonb_build_object('type', 'database', 'id', '', 'display', guard.login_role(),
            'roles', jsonb_build_array(guard.login_role(), guard.acting_role())), 'auth', jsonb_build_object('method', 'database'));
    END IF;
    c := guard.claimed('mailward.claim');
    kind := c ->> 'type';
    IF kind = 'system' AND coalesce(c ->> 'job', '') <> '' THEN
        RETURN jsonb_build_object('auth', none || jsonb_strip_nulls(jsonb_build_object('provider', c ->> 'provider', 'protocol', c ->> 'protocol', 'issuer', c ->> 'issuer')),
            'actor', jsonb_build_object('type', kind, 'display', 'System', 'job', jsonb_build_object('name', c ->> 'job', 'trigger', c ->> 'cause')));
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

-- What the act came with: see 0004.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.act_context() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF session_user = 'mailward_app' AND guard.login_role() = 'mailward_app' THEN RETURN guard.claimed('mailward.context'); END IF;
    RETURN jsonb_build_object('application', coalesce(nullif(current_setting('application_name', true), ''), 'database'),
                              'source_ip', host(inet_client_addr()));
END $$;
-- +goose StatementEnd

-- The person behind a session or a token: see 0028. Without the name: an event's bytes
-- are for good, and the address is among the values that can be erased.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.person(c jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE u record;
BEGIN
    IF c ->> 'session' IS NOT NULL THEN
        SELECT a.id, a.email, s.auth_method AS method, s.provider, nullif(s.protocol, '') AS protocol, nullif(s.issuer, '') AS issuer, s.mfa,
               s.id::text AS session_id, NULL::text AS token_id,
               (SELECT coalesce(jsonb_agg(DISTINCT g.role), '[]') FROM public.role_grant g WHERE g.user_id = a.id) AS roles INTO u
        FROM public.session s JOIN public.user_account a ON a.id = s.user_id WHERE s.id::text = lower(c ->> 'session');
    ELSE
        SELECT a.id, a.email, 'token'::text AS method, 'local'::text AS provider, NULL::text AS protocol, NULL::text AS issuer, NULL::boolean AS mfa,
               NULL::text AS session_id, t.id::text AS token_id,
               jsonb_build_array(t.role) AS roles INTO u
        FROM public.api_token t JOIN public.user_account a ON a.id = t.owner_id WHERE t.id::text = lower(c ->> 'token');
    END IF;
    IF u.id IS NULL THEN RETURN NULL; END IF;
    RETURN jsonb_build_object('email', u.email, 'actor', jsonb_build_object('type', 'user', 'id', u.id, 'display', '', 'roles', u.roles),
        'auth', jsonb_build_object('method', u.method, 'provider', u.provider, 'protocol', u.protocol, 'issuer', u.issuer, 'mfa', u.mfa,
            'session_id', u.session_id, 'credential_id', u.token_id));
END $$;
-- +goose StatementEnd

-- Replaces the personal columns of one side of a change by commitments: {row, pii}. Of a
-- list each element is one, so that erasing somebody reaches them among others.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.commit_row(r jsonb, person text[], side text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE col text; x jsonb; more jsonb; pii jsonb := '[]';
BEGIN
    FOREACH col IN ARRAY person LOOP
        IF jsonb_typeof(r -> col) = 'array' THEN
            SELECT coalesce(jsonb_agg(v.x -> 'event' ORDER BY v.i), '[]'), coalesce(jsonb_agg(v.x -> 'pii'), '[]') INTO x, more
            FROM (SELECT t.i, guard.commit_value('change.' || side || '.' || col || '.' || (t.i - 1), t.v) AS x
                FROM jsonb_array_elements_text(r -> col) WITH ORDINALITY t(v, i) OFFSET 0) v;
            r := jsonb_set(r, ARRAY[col], x);
            pii := pii || more;
        ELSIF coalesce(r ->> col, '') <> '' THEN
            x := guard.commit_value('change.' || side || '.' || col, r ->> col);
            r := jsonb_set(r, ARRAY[col], x -> 'event');
            pii := pii || (x -> 'pii');
        END IF;
    END LOOP;
    RETURN jsonb_build_object('row', r, 'pii', pii);
END $$;
-- +goose StatementEnd

-- Writes one event of the database itself: see 0004. That no person has signed it stands
-- in it; the event of the act that led to it has the same request.
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
        'source', jsonb_build_object('ip', ip -> 'event', 'user_agent_class', ctx -> 'user_agent_class', 'trusted_proxy', ctx -> 'trusted_proxy'),
        'application', jsonb_build_object('name', ctx -> 'application', 'version', NULL, 'client_id', ctx -> 'client_id'),
        'request', jsonb_build_object('id', ctx -> 'request_id', 'method', ctx -> 'method', 'path', ctx -> 'path', 'status', NULL, 'duration_ms', NULL),
        'correlation', jsonb_build_object('trace_id', ctx -> 'trace_id', 'incident_id', NULL, 'alert_id', NULL, 'causation_id', NULL, 'mail_id', NULL, 'item_id', NULL),
        'targets', p -> 'targets', 'change', p -> 'change', 'approval', NULL, 'attestation', '{"by": "database"}'::jsonb,
        'reason', jsonb_build_object('code', coalesce(p #> '{reason,code}', ctx -> 'reason_code'), 'text', coalesce(p #> '{reason,text}', ctx -> 'reason'),
            'ticket', ctx -> 'ticket', 'legal_basis', ctx -> 'legal_basis', 'emergency', coalesce(ctx -> 'emergency', 'false')),
        'observer', jsonb_build_object('service', 'database', 'instance', current_database(), 'build', current_setting('server_version'), 'host_id', NULL,
            'database_role', CASE who #>> '{actor,type}' WHEN 'database' THEN who #>> '{actor,roles,0}' ELSE session_user END, 'set_role', guard.acting_role()),
        'class', jsonb_build_object('retention', p ->> 'retention', 'contains_pii', pii <> '[]', 'tlp', 'AMBER'));
    PERFORM audit.append(id, convert_to(e::text, 'UTF8'), pii);
    RETURN id;
END $$;
-- +goose StatementEnd

-- What stands as right is noted by guard.seal, in a transaction that is on record as
-- maintenance. A statement can name the function in a comment, and so the name alone is not asked for.
-- +goose StatementBegin
CREATE FUNCTION guard.only_seal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE stack text;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF guard.in_maintenance() AND position(' guard.seal() ' IN replace(stack, E'\n', ' ')) > 0 THEN RETURN NULL; END IF;
    PERFORM guard.trace(TG_OP, format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    RAISE EXCEPTION '%.% is written by guard.seal() alone: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
END $$;
-- +goose StatementEnd

RESET ROLE;

-- The transaction that last wrote each trigger, function and event trigger that guards:
-- one that was changed and changed back has another than when the guards were sealed, also
-- where it was written in the catalogue itself, which no event trigger sees.
-- +goose StatementBegin
CREATE FUNCTION guard.touched() RETURNS TABLE (name text, by_xact text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'trigger ' || t.tgname || ' on ' || t.tgrelid::regclass, t.xmin::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND (c.relnamespace IN ('audit'::regnamespace, 'guard'::regnamespace)
        OR c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND c.relowner = 'mailward_owner'::regrole)
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure, p.xmin::text FROM pg_proc p WHERE p.pronamespace IN ('audit'::regnamespace, 'guard'::regnamespace)
    UNION ALL
    SELECT 'event trigger ' || e.evtname, e.xmin::text FROM pg_event_trigger e WHERE e.evtname LIKE 'mailward\_%'
$$;
-- +goose StatementEnd

-- Which database of which cluster this is: in a copy or after a restore everything was
-- written by other transactions. Empty where the server does not say.
-- +goose StatementBegin
CREATE FUNCTION guard.place() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT s.system_identifier || ' ' || d.oid FROM pg_control_system() s, pg_database d WHERE d.datname = current_database());
EXCEPTION WHEN insufficient_privilege THEN
    RETURN '';
END $$;
-- +goose StatementEnd

-- Values of who acted, and from where, that are gone (or the key to them) though no event
-- tells that they were erased: how many, and the first event that lacks one.
-- +goose StatementBegin
CREATE FUNCTION guard.lost_values(OUT events bigint, OUT first text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH erased AS (SELECT DISTINCT unnest(e.target_ids) AS token FROM audit.event e WHERE e.action = 'audit.pii.erased')
    SELECT count(*), min(e.id::text) FROM audit.event e
    CROSS JOIN LATERAL (VALUES ('actor.email', e.actor_blind), ('source.ip', e.ip_blind)) v(path, token)
    WHERE v.token IS NOT NULL AND NOT EXISTS (SELECT FROM erased x WHERE x.token = encode(v.token, 'hex'))
      AND NOT EXISTS (SELECT FROM audit.pii p LEFT JOIN guard.subject s ON s.token = p.blind
                      WHERE p.event_id = e.id AND p.path = v.path AND (p.sealed IS NULL OR s.token IS NOT NULL))
$$;
-- +goose StatementEnd

-- Notes what stands now as what should stand: see 0005.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.seal() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT guard.in_maintenance() THEN
        RAISE EXCEPTION 'guard.seal works only after audit.maintenance in the same transaction' USING ERRCODE = '42501';
    END IF;
    DELETE FROM guard.manifest;
    INSERT INTO guard.manifest (kind, name, detail) SELECT i.kind, i.name, i.detail FROM guard.inventory() i
        UNION ALL SELECT 'touched', t.name, t.by_xact FROM guard.touched() t UNION ALL SELECT 'place', 'place', guard.place();
END $$;
-- +goose StatementEnd

-- See 0005 and 0082. A partition of the record is one wherever it lies.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.schema_findings() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT format('%s %s is %s', coalesce(m.kind, i.kind), coalesce(m.name, i.name),
            CASE WHEN i.name IS NULL THEN 'missing' WHEN m.name IS NULL THEN 'new and not ours' ELSE format('changed: %s, was %s', i.detail, m.detail) END)
        FROM (SELECT * FROM guard.manifest x WHERE x.kind NOT IN ('touched', 'place')) m FULL JOIN guard.inventory() i ON i.kind = m.kind AND i.name = m.name
        WHERE m.detail IS DISTINCT FROM i.detail AND EXISTS (SELECT FROM guard.manifest);
    RETURN QUERY SELECT format('trigger %s on %s is missing or not always on', n.name, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        CROSS JOIN (VALUES ('mailward_no_change', 26, 'guard.refuse()'), ('mailward_no_truncate', 34, 'guard.refuse()'),
            ('mailward_no_row_change', 27, 'guard.refuse()'), ('mailward_only_through', 6, 'guard.only_through()')) n(name, type, fn)
        WHERE s.nspname = 'audit' AND c.relispartition AND c.relkind IN ('r', 'p')
          AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = n.name AND t.tgenabled = 'A' AND t.tgfoid = to_regprocedure(n.fn)
                          AND t.tgtype = n.type AND t.tgqual IS NULL AND t.tgattr::text = '');
    RETURN QUERY SELECT format('trigger %s on %s is new and not ours', t.tgname, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace JOIN pg_trigger t ON t.tgrelid = c.oid
        WHERE s.nspname = 'audit' AND c.relispartition AND c.relkind IN ('r', 'p') AND NOT t.tgisinternal
          AND t.tgname NOT IN ('mailward_no_change', 'mailward_no_truncate', 'mailward_no_row_change', 'mailward_only_through');
    RETURN QUERY SELECT format('partition %s belongs to %s, has rights %s, rules or row security', c.oid::regclass, c.relowner::regrole, c.relacl)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE s.nspname = 'audit' AND c.relispartition AND c.relkind IN ('r', 'p')
          AND (c.relowner <> 'mailward_owner'::regrole OR c.relrowsecurity OR EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid)
               OR EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)
               OR EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL));
    RETURN QUERY SELECT format('table %s inherits from the record, and is not in its schema', p.relid)
        FROM pg_partition_tree(to_regclass('audit.event')) p JOIN pg_class c ON c.oid = p.relid WHERE c.relnamespace <> 'audit'::regnamespace;
    -- A child table by inheritance would show its rows in the parent, unrecorded.
    RETURN QUERY SELECT format('table %s inherits from %s', h.inhrelid::regclass, h.inhparent::regclass)
        FROM pg_inherits h WHERE h.inhparent IN (SELECT guard.recorded_tables())
          OR h.inhparent IN (SELECT c.oid FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace IN ('audit'::regnamespace, 'guard'::regnamespace));
END $$;
-- +goose StatementEnd

-- What is wrong with the guards now, and with what they guard: see 0005 and 0024.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.findings() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint; top bigint; written text[];
BEGIN
    RETURN QUERY SELECT * FROM guard.schema_findings();
    IF NOT EXISTS (SELECT FROM guard.manifest) THEN
        RETURN NEXT 'the manifest of the guards is empty';
    END IF;
    IF (SELECT l.level FROM guard.level l) = 'full' AND NOT guard.trace_works() THEN
        RETURN NEXT 'the loopback connection of the tamper trace does not work';
    END IF;
    IF (SELECT nullif(m.detail, '') FROM guard.manifest m WHERE m.kind = 'place') = guard.place() THEN
        -- Of what is otherwise than it should be, more has been said already.
        written := ARRAY(SELECT t.name FROM guard.touched() t JOIN guard.manifest m ON m.kind = 'touched' AND m.name = t.name WHERE m.detail <> t.by_xact);
        IF written <> '{}' THEN
            RETURN QUERY SELECT format('%s %s was changed since the guards were sealed, though it is as it was: they may have been down', i.kind, i.name)
                FROM guard.inventory() i JOIN guard.manifest m ON m.kind = i.kind AND m.name = i.name AND m.detail = i.detail WHERE i.kind || ' ' || i.name = ANY (written);
        END IF;
        -- Partitions are not in the inventory. One that came later was made together with its triggers.
        RETURN QUERY SELECT format('trigger %s on %s was changed since it was made, whatever it is now: the guards may have been down', t.tgname, t.tgrelid::regclass)
            FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid AND c.relnamespace = 'audit'::regnamespace JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
            LEFT JOIN guard.manifest m ON m.kind = 'touched' AND m.name = 'trigger ' || t.tgname || ' on ' || t.tgrelid::regclass
            WHERE t.xmin::text <> coalesce(m.detail, h.xmin::text);
    END IF;
    SELECT count(*) INTO n FROM audit.tamper_reported r WHERE r.reported_at > now() - interval '1 day' AND r.attempt_id::text NOT IN (
        SELECT coalesce(convert_from(e.bytes, 'UTF8')::jsonb #>> '{change,after,attempt}', '') FROM audit.event e
        WHERE e.action = 'guard.violation' AND e.id >= audit.uuid_at(now() - interval '25 hours'));
    IF n > 0 THEN
        RETURN NEXT format('%s traces of attempts count as told, and no event tells of them', n);
    END IF;
    SELECT max(seq) INTO top FROM audit.leaf;
    SELECT count(*) INTO n FROM audit.leaf WHERE seq > top - 10000;
    IF n <> least(10000, coalesce(top, -1) + 1) THEN
        RETURN NEXT format('the sequence of events has a gap below number %s', top);
    END IF;
    SELECT count(*) INTO n FROM audit.leaf l WHERE l.seq > top - 1000 AND NOT EXISTS (SELECT FROM audit.event e WHERE e.retention = l.retention AND e.id = l.event_id)
      AND NOT EXISTS (SELECT FROM audit.purge p WHERE p.retention = l.retention AND l.event_id >= p.from_id AND l.event_id < p.end_id);
    IF n > 0 THEN
        RETURN NEXT format('%s of the last 1000 numbered events are gone', n);
    END IF;
    SELECT count(*) INTO n FROM audit.event e
    WHERE e.id >= audit.uuid_at(now() - interval '1 hour') AND e.recorded_at < now() - interval '1 minute'
      AND NOT EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = e.id AND l.retention = e.retention)
      AND NOT EXISTS (SELECT FROM audit.unsequenced u WHERE u.id = e.id);
    IF n > 0 THEN
        RETURN NEXT format('%s events of the last hour are neither numbered nor waiting for it', n);
    END IF;
END $$;
-- +goose StatementEnd

-- See 0005. What is moved out of a guarded schema is named by where it is then: so the
-- tables and functions that should be there are looked for, and the record's partitions by what they are.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.refuse_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE what text;
BEGIN
    IF guard.in_maintenance() THEN RETURN; END IF;
    IF TG_EVENT = 'table_rewrite' THEN
        -- ALTER COLUMN ... USING changes rows without firing a row trigger.
        SELECT 'rewrite of ' || c.oid::regclass INTO what FROM pg_class c WHERE c.oid = pg_event_trigger_table_rewrite_oid()
          AND (c.relnamespace IN (SELECT s.oid FROM pg_namespace s WHERE s.nspname IN ('audit', 'guard')) OR c.oid IN (SELECT guard.recorded_tables()));
    ELSIF TG_EVENT = 'sql_drop' THEN
        SELECT o.object_type || ' ' || o.object_identity INTO what FROM pg_event_trigger_dropped_objects() o
        WHERE o.schema_name IN ('audit', 'guard') OR o.object_identity IN ('audit', 'guard')
           OR (o.object_type IN ('trigger', 'rule', 'policy', 'table constraint', 'default value') AND o.address_names[1] IN ('audit', 'guard'))
           OR (o.object_type IN ('trigger', 'event trigger') AND o.object_identity LIKE 'mailward\_%')
           OR (o.object_type IN ('table', 'table column') AND EXISTS (SELECT FROM guard.recorded_tables() t(id) WHERE t.id = o.objid))
           OR (o.object_type IN ('extension', 'server', 'user mapping') AND o.object_identity LIKE ANY (ARRAY['dblink', '%mailward\_loopback']))
        LIMIT 1;
    ELSE
        SELECT o.command_tag || ' ' || coalesce(o.object_identity, '') INTO what FROM pg_event_trigger_ddl_commands() o
        WHERE o.schema_name IN ('audit', 'guard')
           OR (o.object_type = 'schema' AND o.objid IN (SELECT s.oid FROM pg_namespace s WHERE s.nspname IN ('audit', 'guard')))
           OR (o.object_type IN ('trigger', 'rule', 'policy') AND o.object_identity ~ ' on (audit|guard)\.')
           OR (o.object_type IN ('extension', 'server', 'user mapping') AND o.object_identity LIKE ANY (ARRAY['dblink', '%mailward\_loopback']))
           OR (o.object_type IN ('table', 'table column', 'table constraint') AND o.command_tag <> 'COMMENT' AND o.objid IN (SELECT guard.recorded_tables()))
           OR (o.object_type IN ('trigger', 'rule', 'policy')
               AND EXISTS (SELECT FROM guard.recorded_tables() t(id) WHERE right(o.object_identity, length(t.id::regclass::text) + 11) = ' on public.' || t.id::regclass::text
                            OR right(o.object_identity, length(t.id::regclass::text) + 4) = ' on ' || t.id::regclass::text))
        LIMIT 1;
        IF what IS NULL AND (to_regnamespace('audit') IS NULL OR to_regnamespace('guard') IS NULL) THEN
            what := TG_TAG || ' of a guarded schema';
        END IF;
        -- Rights have no names here: whatever was done, the guards must still
        -- stand. Roles are not part of such a statement.
        IF what IS NULL AND TG_TAG IN ('GRANT', 'REVOKE', 'ALTER DEFAULT PRIVILEGES', 'CREATE TABLE', 'CREATE FOREIGN TABLE',
                'ALTER TABLE', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER PROCEDURE', 'ALTER EXTENSION') THEN
            SELECT TG_TAG || ': ' || f INTO what FROM guard.schema_findings() f
            WHERE CASE WHEN TG_TAG ~ '^(CREATE|ALTER) (TABLE|FOREIGN|FUNCTION|ROUTINE|PROCEDURE|EXTENSION)'
                THEN f LIKE '% inherits from %' OR TG_TAG LIKE 'ALTER %' AND f ~ '^(table|function) .* is missing$' ELSE f !~ '^(superuser|member) ' END LIMIT 1;
        END IF;
    END IF;
    IF what IS NOT NULL THEN
        PERFORM guard.trace(TG_TAG, what);
        RAISE EXCEPTION 'the audit is guarded: % refused', what USING ERRCODE = '42501',
            HINT = 'Migrations of Mailward itself go through audit.maintenance(version, reason).';
    END IF;
END $$;
-- +goose StatementEnd

-- See 0005. Who takes the language takes all functions of it, and with them what would
-- have refused that.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.refuse_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE q text := lower(coalesce(current_query(), ''));
BEGIN
    IF guard.in_maintenance() THEN RETURN; END IF;
    IF TG_TAG NOT IN ('DROP SCHEMA', 'DROP OWNED') AND q !~ '\m(guard|audit|dblink|dblink_fdw|mailward_loopback|plpgsql|pgcrypto)\M' AND q !~ 'u&"' AND q !~ '^[\s(]*(do|select|with|call|execute)\M'
       AND q !~ '\m(refuse|refuse_ddl|refuse_drop|only_through|record_change|record_maintenance|in_maintenance|recorded_tables|schema_findings|trace)\M' THEN
        RETURN;
    END IF;
    PERFORM guard.trace(TG_TAG, TG_TAG);
    RAISE EXCEPTION 'the audit is guarded: % refused', TG_TAG USING ERRCODE = '42501',
        HINT = 'Migrations of Mailward itself go through audit.maintenance(version, reason).';
END $$;
-- +goose StatementEnd

SET LOCAL ROLE mailward_owner;

-- Removes personal values, of whom (tokens) or of which events: see 0023. With the values
-- of somebody whom an event is about goes what that event quotes as a whole: the text that was
-- signed, and what another server answered.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.remove_values(p_tokens bytea[], p_events uuid[]) RETURNS bigint
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint; quoting uuid[];
BEGIN
    SELECT array_agg(DISTINCT p.event_id) INTO quoting FROM audit.pii p WHERE p.blind = ANY (p_tokens) AND p.path NOT IN ('actor.email', 'source.ip');
    DELETE FROM audit.pii p WHERE p.blind = ANY (p_tokens) OR p.event_id = ANY (p_events)
        OR p.event_id = ANY (quoting) AND p.path IN ('attestation.act', 'outcome.detail');
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
-- +goose StatementEnd

RESET ROLE;

REVOKE ALL ON FUNCTION guard.login_role(), guard.only_seal(), guard.touched(), guard.place(), guard.lost_values() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.lost_values() TO mailward_app;

DROP TRIGGER mailward_only_seal ON guard.manifest;
SELECT guard.add_trigger('guard.manifest', 'mailward_only_seal', 'INSERT OR UPDATE OR DELETE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.only_seal()');

-- +goose StatementBegin
DO $$
BEGIN
    IF (SELECT level FROM guard.level) = 'full' THEN
        DROP EVENT TRIGGER mailward_drop_start;
        CREATE EVENT TRIGGER mailward_drop_start ON ddl_command_start
            WHEN TAG IN ('DROP SCHEMA', 'DROP OWNED', 'DROP FUNCTION', 'DROP ROUTINE', 'DROP PROCEDURE', 'DROP EXTENSION', 'ALTER EXTENSION', 'DROP LANGUAGE',
                         'DROP SERVER', 'ALTER SERVER', 'DROP USER MAPPING', 'ALTER USER MAPPING', 'DROP FOREIGN DATA WRAPPER', 'ALTER SCHEMA')
            EXECUTE FUNCTION guard.refuse_drop();
        ALTER EVENT TRIGGER mailward_drop_start ENABLE ALWAYS;
    END IF;
END $$;
-- +goose StatementEnd

SELECT guard.seal();
