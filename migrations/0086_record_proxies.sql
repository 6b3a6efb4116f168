-- +goose Up
-- Events of row changes say by which trusted proxy a call came. The self-check names
-- roles and schemas, and not their numbers, which are others in another cluster.

SELECT audit.maintenance('0086', 'events of row changes have the trusted proxy, and the self-check fits in a restored cluster');

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
        'source', jsonb_build_object('ip', ip -> 'event', 'user_agent_class', ctx -> 'user_agent_class', 'trusted_proxy', ctx -> 'trusted_proxy'),
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

RESET ROLE;

-- See 0005 and 0082.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.inventory() RETURNS TABLE (kind text, name text, detail text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH spaces AS (SELECT s.oid, s.nspname FROM pg_namespace s WHERE s.nspname IN ('audit', 'guard', 'public')),
    rels AS (
        SELECT c.* FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT c.relispartition
          AND (s.nspname <> 'public' OR c.relowner = 'mailward_owner'::regrole)
    )
    SELECT 'schema', s.nspname::text, concat_ws(' ', s2.nspowner::regrole,
        (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(s2.nspacl) a)) FROM spaces s JOIN pg_namespace s2 ON s2.oid = s.oid
    UNION ALL
    SELECT 'table', c.oid::regclass::text, concat_ws(' ', c.relkind::text, c.relowner::regrole,
        (SELECT array_agg(a.grantee::regrole || ' ' || a.privilege_type ORDER BY a.grantee::regrole::text, a.privilege_type) FROM aclexplode(c.relacl) a
            WHERE c.relnamespace <> 'public'::regnamespace OR a.privilege_type <> 'SELECT'), -- to read the ledger is a matter of the installation
        (SELECT array_agg(t.attname || ' ' || a.grantee::regrole || ' ' || a.privilege_type ORDER BY t.attname, a.grantee::regrole::text, a.privilege_type) FROM pg_attribute t, aclexplode(t.attacl) a
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
    SELECT 'default rights', d.defaclrole::regrole::text || ' ' || d.defaclnamespace::regnamespace || ' ' || d.defaclobjtype::text, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(d.defaclacl) a)::text FROM pg_default_acl d
    WHERE d.defaclnamespace IN (0, 'audit'::regnamespace, 'guard'::regnamespace)
$$;
-- +goose StatementEnd

SELECT guard.seal();
