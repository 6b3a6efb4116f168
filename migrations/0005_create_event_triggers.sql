-- +goose Up
-- Guards against changes of the schema itself. An event trigger needs a
-- superuser to make it, so an outside PostgreSQL that gives us none runs with
-- the guard level `reduced`, which Health shows.

-- Opens the guarded schemas for the rest of this transaction. A trigger puts
-- that on record. Our own migrations go through here.
-- +goose StatementBegin
CREATE FUNCTION audit.maintenance(p_version text, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(p_version, '') = '' OR coalesce(p_reason, '') = '' THEN
        RAISE EXCEPTION 'audit.maintenance needs a version and a reason' USING ERRCODE = '22023';
    END IF;
    INSERT INTO guard.maintenance (xid, version, reason) VALUES (pg_current_xact_id(), p_version, p_reason) ON CONFLICT DO NOTHING;
END $$;
-- +goose StatementEnd

-- The tables whose rows record their own changes.
-- +goose StatementBegin
CREATE FUNCTION guard.recorded_tables() RETURNS SETOF oid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.tgrelid FROM pg_trigger t WHERE t.tgfoid = 'guard.record_change()'::regprocedure
$$;
-- +goose StatementEnd

-- Whatever the guards stand on, one row each: owners, rights, triggers,
-- functions, event triggers, and who could go around them. Partitions are
-- checked on their own, since they come and go.
-- +goose StatementBegin
CREATE FUNCTION guard.inventory() RETURNS TABLE (kind text, name text, detail text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH spaces AS (SELECT s.oid, s.nspname FROM pg_namespace s WHERE s.nspname IN ('audit', 'guard', 'public')),
    rels AS (
        SELECT c.* FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT c.relispartition
          AND (s.nspname <> 'public' OR c.relowner = 'mailward_owner'::regrole)
    )
    SELECT 'schema', s.nspname::text, concat_ws(' ', s2.nspowner::regrole, s2.nspacl) FROM spaces s JOIN pg_namespace s2 ON s2.oid = s.oid
    UNION ALL
    SELECT 'table', c.oid::regclass::text, concat_ws(' ', c.relkind::text, c.relowner::regrole,
        (SELECT array_agg(a.grantee || ' ' || a.privilege_type ORDER BY 1) FROM aclexplode(c.relacl) a
            WHERE c.relnamespace <> 'public'::regnamespace OR a.privilege_type <> 'SELECT'), -- to read the ledger is a matter of the installation
        (SELECT array_agg(t.attname || ' ' || a.grantee || ' ' || a.privilege_type ORDER BY 1) FROM pg_attribute t, aclexplode(t.attacl) a
            WHERE t.attrelid = c.oid AND (c.relnamespace <> 'public'::regnamespace OR a.privilege_type <> 'SELECT')),
        c.relrowsecurity, (SELECT count(*) FROM pg_rewrite w WHERE w.ev_class = c.oid AND c.relkind IN ('r', 'p'))) FROM rels c
    UNION ALL
    SELECT 'trigger', t.tgname || ' on ' || t.tgrelid::regclass, concat_ws(' ', t.tgenabled::text, t.tgtype, t.tgfoid::regprocedure, encode(t.tgargs, 'escape'), t.tgqual IS NOT NULL)
    FROM pg_trigger t JOIN rels c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, concat_ws(' ', p.proowner::regrole, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(p.proacl) a),
        p.prosecdef, p.proconfig, encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'))
    FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace WHERE s.nspname <> 'public'
    UNION ALL
    SELECT 'event trigger', e.evtname::text, concat_ws(' ', e.evtenabled::text, e.evtevent, e.evtfoid::regprocedure, e.evttags) FROM pg_event_trigger e WHERE e.evtname LIKE 'mailward\_%'
    UNION ALL
    SELECT 'superuser', r.rolname::text, '' FROM pg_roles r WHERE r.rolsuper
    UNION ALL
    SELECT 'member', m.member::regrole || ' of ' || m.roleid::regrole, '' FROM pg_auth_members m
    WHERE m.roleid IN ('mailward_owner'::regrole, 'mailward_guard'::regrole, 'mailward_trace'::regrole)
       OR m.member IN ('mailward_app'::regrole, 'mailward_trace'::regrole, 'mailward_owner'::regrole)
    UNION ALL
    SELECT 'default rights', d.defaclrole::regrole::text || ' ' || d.defaclnamespace::text || ' ' || d.defaclobjtype::text, d.defaclacl::text FROM pg_default_acl d
    WHERE d.defaclnamespace IN (0, 'audit'::regnamespace, 'guard'::regnamespace)
$$;
-- +goose StatementEnd

-- Notes what stands now as what should stand. Only inside audit.maintenance.
-- +goose StatementBegin
CREATE FUNCTION guard.seal() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT guard.in_maintenance() THEN
        RAISE EXCEPTION 'guard.seal works only after audit.maintenance in the same transaction' USING ERRCODE = '42501';
    END IF;
    DELETE FROM guard.manifest;
    INSERT INTO guard.manifest (kind, name, detail) SELECT i.kind, i.name, i.detail FROM guard.inventory() i;
END $$;
-- +goose StatementEnd

-- What is wrong with the schema's guards: one line each, none when all is well.
-- +goose StatementBegin
CREATE FUNCTION guard.schema_findings() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT format('%s %s is %s', coalesce(m.kind, i.kind), coalesce(m.name, i.name),
            CASE WHEN i.name IS NULL THEN 'missing' WHEN m.name IS NULL THEN 'new and not ours' ELSE format('changed: %s, was %s', i.detail, m.detail) END)
        FROM guard.manifest m FULL JOIN guard.inventory() i ON i.kind = m.kind AND i.name = m.name
        WHERE m.detail IS DISTINCT FROM i.detail AND EXISTS (SELECT FROM guard.manifest);
    RETURN QUERY SELECT format('trigger %s on %s is missing or not always on', n.name, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        CROSS JOIN (VALUES ('mailward_no_change', 'guard.refuse()'), ('mailward_no_truncate', 'guard.refuse()'),
            ('mailward_no_row_change', 'guard.refuse()'), ('mailward_only_through', 'guard.only_through()')) n(name, fn)
        WHERE s.nspname = 'audit' AND c.relispartition AND c.relkind IN ('r', 'p')
          AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = n.name AND t.tgenabled = 'A' AND t.tgfoid = n.fn::regprocedure);
    RETURN QUERY SELECT format('partition %s belongs to %s, has rights %s, rules or row security', c.oid::regclass, c.relowner::regrole, c.relacl)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE s.nspname = 'audit' AND c.relispartition AND c.relkind IN ('r', 'p')
          AND (c.relowner <> 'mailward_owner'::regrole OR c.relrowsecurity OR EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid)
               OR EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)
               OR EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL));
    -- A child table by inheritance would show its rows in the parent, unrecorded.
    RETURN QUERY SELECT format('table %s inherits from %s', h.inhrelid::regclass, h.inhparent::regclass)
        FROM pg_inherits h WHERE h.inhparent IN (SELECT guard.recorded_tables())
          OR h.inhparent IN (SELECT c.oid FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace IN ('audit'::regnamespace, 'guard'::regnamespace));
END $$;
-- +goose StatementEnd

-- What is wrong with the guards now, and with what they guard.
-- +goose StatementBegin
CREATE FUNCTION guard.findings() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint; top bigint;
BEGIN
    RETURN QUERY SELECT * FROM guard.schema_findings();
    IF NOT EXISTS (SELECT FROM guard.manifest) THEN
        RETURN NEXT 'the manifest of the guards is empty';
    END IF;
    IF (SELECT l.level FROM guard.level l) = 'full' AND NOT guard.trace_works() THEN
        RETURN NEXT 'the loopback connection of the tamper trace does not work';
    END IF;
    SELECT max(seq) INTO top FROM audit.leaf;
    SELECT count(*) INTO n FROM audit.leaf WHERE seq > top - 10000;
    IF n <> least(10000, coalesce(top, -1) + 1) THEN
        RETURN NEXT format('the sequence of events has a gap below number %s', top);
    END IF;
    SELECT count(*) INTO n FROM audit.leaf l WHERE l.seq > top - 1000 AND NOT EXISTS (SELECT FROM audit.event e WHERE e.retention = l.retention AND e.id = l.event_id);
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

-- +goose StatementBegin
CREATE FUNCTION guard.refuse_ddl() RETURNS event_trigger
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
        IF what IS NULL AND TG_TAG IN ('GRANT', 'REVOKE', 'ALTER DEFAULT PRIVILEGES', 'CREATE TABLE', 'ALTER TABLE') THEN
            SELECT TG_TAG || ': ' || f INTO what FROM guard.schema_findings() f
            WHERE CASE WHEN TG_TAG LIKE '% TABLE' THEN f LIKE '% inherits from %' ELSE f !~ '^(superuser|member) ' END LIMIT 1;
        END IF;
    END IF;
    IF what IS NOT NULL THEN
        PERFORM guard.trace(TG_TAG, what);
        RAISE EXCEPTION 'the audit is guarded: % refused', what USING ERRCODE = '42501',
            HINT = 'Migrations of Mailward itself go through audit.maintenance(version, reason).';
    END IF;
END $$;
-- +goose StatementEnd

-- DROP ... CASCADE of the guard's own functions would take the event triggers
-- with it before they could fire, a renamed schema would hide them, and what
-- touches the loopback would take the trace. So this one fires before anything is done. It
-- has only the text of the statement to go by: names of ours, escapes that could
-- hide one, and code that could put a name together are refused alike.
-- +goose StatementBegin
CREATE FUNCTION guard.refuse_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE q text := lower(coalesce(current_query(), ''));
BEGIN
    IF guard.in_maintenance() THEN RETURN; END IF;
    IF TG_TAG NOT IN ('DROP SCHEMA', 'DROP OWNED') AND q !~ '\m(guard|audit|dblink|dblink_fdw|mailward_loopback)\M' AND q !~ 'u&"' AND q !~ '^[\s(]*(do|select|with|call|execute)\M'
       AND q !~ '\m(refuse|refuse_ddl|refuse_drop|only_through|record_change|record_maintenance|in_maintenance|recorded_tables|schema_findings|trace)\M' THEN
        RETURN;
    END IF;
    PERFORM guard.trace(TG_TAG, TG_TAG);
    RAISE EXCEPTION 'the audit is guarded: % refused', TG_TAG USING ERRCODE = '42501',
        HINT = 'Migrations of Mailward itself go through audit.maintenance(version, reason).';
END $$;
-- +goose StatementEnd

-- A loopback to this very server and database, for the trace. Needed again when
-- the server's socket moves and after a copy of the database.
-- +goose StatementBegin
CREATE FUNCTION guard.repoint() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE host text := trim(split_part(current_setting('unix_socket_directories'), ',', 1));
BEGIN
    IF NOT guard.in_maintenance() THEN
        PERFORM audit.maintenance('repoint', 'the tamper trace points at this server and database');
    END IF;
    IF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'mailward_loopback') THEN
        EXECUTE format('CREATE SERVER mailward_loopback FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host %L, port %L, dbname %L, connect_timeout %L)',
            host, current_setting('port'), current_database(), '2');
        GRANT USAGE ON FOREIGN SERVER mailward_loopback TO mailward_guard;
    ELSE
        EXECUTE format('ALTER SERVER mailward_loopback OPTIONS (SET host %L, SET port %L, SET dbname %L)', host, current_setting('port'), current_database());
    END IF;
END $$;
-- +goose StatementEnd

-- Nobody calls what is not granted here.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA audit, guard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb), audit.blind(text), audit.sequence(integer), audit.streamed(text, bigint),
    audit.take_tamper_attempts(integer), audit.uuid_at(timestamptz), audit.uuid_ms(uuid) TO mailward_app;
GRANT EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb), audit.uuid_at(timestamptz), audit.uuid_ms(uuid) TO mailward_guard;
GRANT EXECUTE ON FUNCTION guard.keyed_hash(text, text) TO mailward_owner;
GRANT EXECUTE ON FUNCTION guard.findings(), guard.make_partitions(interval), guard.trace_works() TO mailward_app;

-- +goose StatementBegin
DO $$
BEGIN
    PERFORM audit.maintenance('0005', 'the audit was installed');
    IF (SELECT level FROM guard.level) = 'full' THEN
        PERFORM guard.repoint();
        CREATE EVENT TRIGGER mailward_ddl ON ddl_command_end EXECUTE FUNCTION guard.refuse_ddl();
        CREATE EVENT TRIGGER mailward_drop ON sql_drop EXECUTE FUNCTION guard.refuse_ddl();
        CREATE EVENT TRIGGER mailward_rewrite ON table_rewrite EXECUTE FUNCTION guard.refuse_ddl();
        CREATE EVENT TRIGGER mailward_drop_start ON ddl_command_start
            WHEN TAG IN ('DROP SCHEMA', 'DROP OWNED', 'DROP FUNCTION', 'DROP ROUTINE', 'DROP PROCEDURE', 'DROP EXTENSION',
                         'DROP SERVER', 'ALTER SERVER', 'DROP USER MAPPING', 'ALTER USER MAPPING', 'DROP FOREIGN DATA WRAPPER', 'ALTER SCHEMA')
            EXECUTE FUNCTION guard.refuse_drop();
        ALTER EVENT TRIGGER mailward_drop_start ENABLE ALWAYS;
        ALTER EVENT TRIGGER mailward_ddl ENABLE ALWAYS;
        ALTER EVENT TRIGGER mailward_drop ENABLE ALWAYS;
        ALTER EVENT TRIGGER mailward_rewrite ENABLE ALWAYS;
    END IF;
    PERFORM guard.seal();
END $$;
-- +goose StatementEnd
