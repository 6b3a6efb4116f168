-- +goose Up
-- Guards against changes of the schema itself. An event trigger needs a
-- superuser to make it, so an outside PostgreSQL that gives us none runs with
-- the guard level `reduced`, which Health shows.

-- Opens the guarded schemas for the rest of this transaction, and puts that on
-- record. Our own migrations go through here.
-- +goose StatementBegin
CREATE FUNCTION audit.maintenance(p_version text, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE id uuid := guard.new_id(); who jsonb := guard.actor();
BEGIN
    IF coalesce(p_version, '') = '' OR coalesce(p_reason, '') = '' THEN
        RAISE EXCEPTION 'audit.maintenance needs a version and a reason' USING ERRCODE = '22023';
    END IF;
    INSERT INTO guard.maintenance (xid, version, reason) VALUES (pg_current_xact_id(), p_version, p_reason) ON CONFLICT DO NOTHING;
    PERFORM audit.append(id, convert_to(jsonb_build_object(
        'schema', 'gw-audit/1', 'id', id, 'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'nonce', encode(uuid_send(gen_random_uuid()), 'hex'), 'workspace_id', NULL, 'category', 'guard', 'action', 'guard.maintenance',
        'phase', 'intent', 'outcome', jsonb_build_object('result', 'success'), 'severity', 'warning',
        'actor', who -> 'actor', 'auth', who -> 'auth', 'targets', jsonb_build_array(jsonb_build_object('type', 'schema', 'id', 'audit')),
        'reason', jsonb_build_object('text', p_reason, 'code', p_version),
        'class', jsonb_build_object('retention', 'sec-3y', 'contains_pii', false))::text, 'UTF8'));
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION audit.maintenance(text, text) FROM PUBLIC;

-- What is wrong with the guards now: one line each, none when all is well.
-- +goose StatementBegin
CREATE FUNCTION guard.findings() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT format('trigger %s on %s is missing or not always on', n.name, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        CROSS JOIN (VALUES ('mailward_no_change'), ('mailward_no_truncate'), ('mailward_no_row_change')) n(name)
        WHERE s.nspname = 'audit' AND c.relkind IN ('r', 'p')
          AND (c.relname IN ('event', 'pii', 'leaf', 'tamper_attempt') OR c.relispartition)
          AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = n.name AND t.tgenabled = 'A'
                            AND t.tgfoid = 'guard.refuse()'::regprocedure);
    RETURN QUERY SELECT format('changes of %s are not recorded', x.name)
        FROM unnest(ARRAY['workspace', 'setting', 'user_account', 'role_grant', 'api_token', 'domain', 'policy', 'quarantine_recipient', 'quarantine_item', 'release', 'approval']) x(name)
        WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass('public.' || x.name) AND t.tgname = 'mailward_record' AND t.tgenabled = 'A'
                            AND t.tgfoid = 'guard.record_change()'::regprocedure)
           OR NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass('public.' || x.name) AND t.tgname = 'mailward_no_truncate' AND t.tgenabled = 'A');
    RETURN QUERY SELECT format('%s may %s on %s', a.grantee::regrole, a.privilege_type, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace, aclexplode(c.relacl) a
        WHERE s.nspname = 'audit' AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner
          AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER');
    RETURN QUERY SELECT format('%s belongs to %s, not mailward_owner', c.oid::regclass, c.relowner::regrole)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE s.nspname = 'audit' AND c.relkind IN ('r', 'p') AND c.relowner <> 'mailward_owner'::regrole;
    RETURN QUERY SELECT format('table %s has a rule or row security', c.oid::regclass)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE s.nspname = 'audit' AND c.relkind IN ('r', 'p') AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid));
    RETURN QUERY SELECT format('function %s was changed', m.name) FROM guard.function_hash m
        WHERE m.hash IS DISTINCT FROM sha256(convert_to(pg_get_functiondef(to_regprocedure(m.name)), 'UTF8'));
    RETURN QUERY SELECT format('event trigger %s is missing or not always on', x.name) FROM guard.level l, unnest(ARRAY['mailward_ddl', 'mailward_drop', 'mailward_drop_start']) x(name)
        WHERE l.level = 'full' AND NOT EXISTS (SELECT FROM pg_event_trigger t WHERE t.evtname = x.name AND t.evtenabled = 'A');
    RETURN QUERY SELECT format('role %s is a superuser, owner or guard', r.rolname) FROM pg_roles r
        WHERE r.rolname IN ('mailward_app', 'mailward_trace') AND (r.rolsuper OR r.rolcreaterole OR r.rolbypassrls
           OR pg_has_role(r.oid, 'mailward_owner', 'MEMBER') OR pg_has_role(r.oid, 'mailward_guard', 'MEMBER'));
    RETURN QUERY SELECT 'the loopback connection of the tamper trace does not work' FROM guard.level l WHERE l.level = 'full' AND NOT guard.trace_works();
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.findings() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guard.findings() TO mailward_app;

-- full: event triggers and traces are in place; reduced: the migrating role was
-- no superuser. The hashes are of the functions as this migration left them.
CREATE TABLE guard.level (one boolean PRIMARY KEY DEFAULT true CHECK (one), level text NOT NULL CHECK (level IN ('full', 'reduced')));
INSERT INTO guard.level (level) SELECT CASE WHEN rolsuper THEN 'full' ELSE 'reduced' END FROM pg_roles WHERE rolname = current_user;
CREATE TABLE guard.function_hash (name text PRIMARY KEY, hash bytea NOT NULL);
GRANT SELECT ON guard.level, guard.function_hash TO mailward_app, mailward_guard;

-- +goose StatementBegin
CREATE FUNCTION guard.refuse_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE what text;
BEGIN
    IF guard.in_maintenance() THEN RETURN; END IF;
    IF TG_EVENT = 'sql_drop' THEN
        SELECT o.object_type || ' ' || o.object_identity INTO what FROM pg_event_trigger_dropped_objects() o
        WHERE o.schema_name IN ('audit', 'guard') OR o.object_identity IN ('audit', 'guard')
           OR (o.object_type IN ('trigger', 'rule', 'policy', 'table constraint', 'default value') AND o.address_names[1] IN ('audit', 'guard'))
           OR (o.object_type = 'trigger' AND o.object_identity LIKE 'mailward\_%')
           OR (o.object_type = 'event trigger' AND o.object_identity LIKE 'mailward\_%')
           OR (o.object_type IN ('extension', 'server', 'user mapping') AND o.object_identity LIKE ANY (ARRAY['dblink', '%mailward\_loopback']))
        LIMIT 1;
    ELSE
        SELECT o.command_tag || ' ' || o.object_identity INTO what FROM pg_event_trigger_ddl_commands() o
        WHERE (o.schema_name IN ('audit', 'guard') AND o.object_type IS DISTINCT FROM 'index')
           OR (o.object_type = 'schema' AND o.objid IN (SELECT oid FROM pg_namespace WHERE nspname IN ('audit', 'guard')))
           OR (o.object_type IN ('trigger', 'rule', 'policy') AND (o.object_identity LIKE '% on audit.%' OR o.object_identity LIKE '% on guard.%'))
        LIMIT 1;
        IF what IS NULL AND to_regnamespace('audit') IS NULL OR to_regnamespace('guard') IS NULL THEN
            what := TG_TAG || ' of a guarded schema';
        END IF;
        -- Rights and triggers of other tables: whatever was done, the guards must still stand.
        IF what IS NULL AND TG_TAG IN ('GRANT', 'REVOKE', 'ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'ALTER DEFAULT PRIVILEGES', 'CREATE FUNCTION', 'ALTER FUNCTION') THEN
            SELECT TG_TAG || ': ' || f INTO what FROM guard.findings() f WHERE f NOT LIKE 'the loopback%' LIMIT 1;
        END IF;
    END IF;
    IF what IS NOT NULL THEN
        PERFORM guard.trace(TG_TAG, what, session_user);
        RAISE EXCEPTION 'the audit is guarded: % refused', what USING ERRCODE = '42501',
            HINT = 'Migrations of Mailward itself go through audit.maintenance(version, reason).';
    END IF;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.refuse_ddl() FROM PUBLIC;

-- DROP ... CASCADE of the guard's own functions would take the event triggers
-- with it before they could fire. So this one fires before anything is done; it
-- has only the text of the statement to go by.
-- +goose StatementBegin
CREATE FUNCTION guard.refuse_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF guard.in_maintenance() OR (TG_TAG NOT IN ('DROP SCHEMA', 'DROP OWNED') AND current_query() !~* '\m(guard|audit|dblink|mailward_loopback)\M') THEN RETURN; END IF;
    PERFORM guard.trace(TG_TAG, TG_TAG, session_user);
    RAISE EXCEPTION 'the audit is guarded: % refused', TG_TAG USING ERRCODE = '42501',
        HINT = 'Migrations of Mailward itself go through audit.maintenance(version, reason).';
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.refuse_drop() FROM PUBLIC;

INSERT INTO guard.function_hash (name, hash)
SELECT p.oid::regprocedure::text, sha256(convert_to(pg_get_functiondef(p.oid), 'UTF8'))
FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE s.nspname IN ('audit', 'guard') AND l.lanname IN ('plpgsql', 'sql');

-- A loopback to this very server and database, for the trace.
-- +goose StatementBegin
CREATE FUNCTION guard.repoint() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'mailward_loopback') THEN
        EXECUTE format('CREATE SERVER mailward_loopback FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host %L, port %L, dbname %L, connect_timeout %L)',
            split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database(), '2');
        GRANT USAGE ON FOREIGN SERVER mailward_loopback TO mailward_guard;
    ELSE
        EXECUTE format('ALTER SERVER mailward_loopback OPTIONS (SET host %L, SET port %L, SET dbname %L)',
            split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database());
    END IF;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION guard.repoint() FROM PUBLIC;

-- +goose StatementBegin
DO $$
BEGIN
    IF (SELECT level FROM guard.level) = 'full' THEN
        PERFORM guard.repoint();
        CREATE EVENT TRIGGER mailward_ddl ON ddl_command_end EXECUTE FUNCTION guard.refuse_ddl();
        CREATE EVENT TRIGGER mailward_drop ON sql_drop EXECUTE FUNCTION guard.refuse_ddl();
        CREATE EVENT TRIGGER mailward_drop_start ON ddl_command_start
            WHEN TAG IN ('DROP SCHEMA', 'DROP OWNED', 'DROP FUNCTION', 'DROP ROUTINE', 'DROP PROCEDURE', 'DROP EXTENSION', 'DROP SERVER', 'DROP USER MAPPING')
            EXECUTE FUNCTION guard.refuse_drop();
        ALTER EVENT TRIGGER mailward_drop_start ENABLE ALWAYS;
        ALTER EVENT TRIGGER mailward_ddl ENABLE ALWAYS;
        ALTER EVENT TRIGGER mailward_drop ENABLE ALWAYS;
    END IF;
END $$;
-- +goose StatementEnd
