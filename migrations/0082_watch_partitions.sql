-- +goose Up
-- The self-check sees a trigger that was added to a partition of the record, one of
-- ours that was made anew with less to do (WHEN, UPDATE OF), and another condition.

SELECT audit.maintenance('0082', 'the self-check compares the triggers of each partition with those of the record');

-- See 0005; of a trigger also the columns and the condition that it is bound to.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.inventory() RETURNS TABLE (kind text, name text, detail text)
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
    SELECT 'trigger', t.tgname || ' on ' || t.tgrelid::regclass, concat_ws(' ', t.tgenabled::text, t.tgtype, t.tgfoid::regprocedure, encode(t.tgargs, 'escape'), nullif(t.tgattr::text, ''),
        CASE WHEN t.tgqual IS NULL THEN 'always' ELSE substring(pg_get_triggerdef(t.oid) FROM ' WHEN (.*) EXECUTE ') END)
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

-- See 0005. A partition has the triggers of the record, just as they are there, and no
-- other: one that drops rows before they are written would leave no other mark.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.schema_findings() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT format('%s %s is %s', coalesce(m.kind, i.kind), coalesce(m.name, i.name),
            CASE WHEN i.name IS NULL THEN 'missing' WHEN m.name IS NULL THEN 'new and not ours' ELSE format('changed: %s, was %s', i.detail, m.detail) END)
        FROM guard.manifest m FULL JOIN guard.inventory() i ON i.kind = m.kind AND i.name = m.name
        WHERE m.detail IS DISTINCT FROM i.detail AND EXISTS (SELECT FROM guard.manifest);
    RETURN QUERY SELECT format('trigger %s on %s is missing or not always on', n.name, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        CROSS JOIN (VALUES ('mailward_no_change', 26, 'guard.refuse()'), ('mailward_no_truncate', 34, 'guard.refuse()'),
            ('mailward_no_row_change', 27, 'guard.refuse()'), ('mailward_only_through', 6, 'guard.only_through()')) n(name, type, fn)
        WHERE s.nspname = 'audit' AND c.relispartition AND c.relkind IN ('r', 'p')
          AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = n.name AND t.tgenabled = 'A' AND t.tgfoid = n.fn::regprocedure
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
    -- A child table by inheritance would show its rows in the parent, unrecorded.
    RETURN QUERY SELECT format('table %s inherits from %s', h.inhrelid::regclass, h.inhparent::regclass)
        FROM pg_inherits h WHERE h.inhparent IN (SELECT guard.recorded_tables())
          OR h.inhparent IN (SELECT c.oid FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace IN ('audit'::regnamespace, 'guard'::regnamespace));
END $$;
-- +goose StatementEnd

SELECT guard.seal();
