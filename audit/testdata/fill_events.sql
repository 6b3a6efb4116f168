-- :events events over 395 days, with the shape and the mix of a busy
-- installation: most are calls and page views, some acts are rare, and one
-- happened only a year ago.
CREATE FUNCTION pg_temp.conceal(v text, OUT token bytea, OUT sealed bytea) LANGUAGE sql AS $$
    SELECT c.tokens[1], c.sealed[1] FROM guard.conceal_all(jsonb_build_array(jsonb_build_object('path', 'v', 'value', v, 'salt', repeat('0', 32))),
        jsonb_build_object('v', jsonb_build_object('ref', 'pii:v', 'c', 'sha256:' || encode(sha256(decode(repeat('0', 32), 'hex') || convert_to(v, 'UTF8')), 'hex')))) c
$$;
CREATE TEMP TABLE who AS
    SELECT n, gen_random_uuid() AS id, 'user' || n || '@ours.example' AS email, c.token AS blind, c.sealed
    FROM generate_series(0, 199) n, LATERAL pg_temp.conceal('user' || n || '@ours.example') c;
CREATE TEMP TABLE place AS
    SELECT n, '192.0.2.' || n AS ip, c.token AS blind, c.sealed FROM generate_series(0, 255) n, LATERAL pg_temp.conceal('192.0.2.' || n) c;
CREATE TEMP TABLE box AS
    SELECT n, 'box' || n || '@ours.example' AS email, c.token AS blind, c.sealed
    FROM generate_series(0, 999) n, LATERAL pg_temp.conceal('box' || n || '@ours.example') c;
CREATE TEMP TABLE space AS SELECT n, gen_random_uuid() AS id FROM generate_series(0, 19) n;
ANALYZE who; ANALYZE place; ANALYZE box; ANALYZE space;

CREATE TEMP TABLE act AS
SELECT s.n, now() - interval '1 minute' - (:events - s.n) * (interval '395 days' / :events) AS at, s.p, s.user_n, s.ip_n, s.box_n,
       CASE WHEN s.n < :events / 20 AND s.n % 1000 = 3 THEN 'domain.create'
            WHEN p < 0.55 THEN 'api.call' WHEN p < 0.85 THEN 'web.view' WHEN p < 0.90 THEN 'auth.login' WHEN p < 0.91 THEN 'auth.login_failed'
            WHEN p < 0.97 THEN 'quarantine.item.create' WHEN p < 0.98 THEN 'quarantine.view_body' WHEN p < 0.982 THEN 'quarantine.raw_download'
            WHEN p < 0.986 THEN 'quarantine.release.request' WHEN p < 0.990 THEN 'quarantine.release.execute' WHEN p < 0.995 THEN 'quarantine.release.result'
            WHEN p < 0.9985 THEN 'policy.update' WHEN p < 0.9990 THEN 'audit.export' WHEN p < 0.9993 THEN 'user.update'
            WHEN p < 0.9994 THEN 'role.create' ELSE 'quarantine.delete' END AS action
FROM (SELECT n, random() AS p, floor(200 * power(random(), 2))::int AS user_n, floor(random() * 256)::int AS ip_n, floor(random() * 1000)::int AS box_n
      FROM generate_series(1, :events) n) s;

CREATE UNLOGGED TABLE public.fill_event AS
SELECT a.n, a.at, a.action, a.p, w.blind AS actor_blind, l.blind AS ip_blind, w.email, l.ip, b.email AS box, b.blind AS box_blind, w.id AS user_id,
       (lpad(to_hex((extract(epoch FROM a.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(a.n::text), 1, 3) || 'a' || substr(md5(a.n::text), 4, 15))::uuid AS id,
       CASE WHEN a.action LIKE 'auth.%' OR a.action LIKE 'api.%' OR a.action LIKE 'web.%' OR a.action = 'quarantine.item.create' THEN 'sec-400d' ELSE 'sec-3y' END AS retention,
       CASE WHEN a.action LIKE 'auth.%' THEN 'failure' END AS refusable,
       CASE WHEN a.n % 50000 = 7 THEN 'database' WHEN a.action = 'quarantine.item.create' THEN 'system' ELSE 'user' END AS actor_type,
       CASE WHEN a.action = 'auth.login_failed' THEN 'failure' WHEN a.n % 200 = 5 THEN 'refused' ELSE 'success' END AS outcome,
       CASE WHEN a.n % 50000 = 7 THEN 'psql' WHEN a.action = 'api.call' THEN 'api' WHEN a.action = 'quarantine.item.create' THEN 'gateway' ELSE 'web-ui' END AS application,
       CASE a.action WHEN 'api.call' THEN '/api/v1/route' || a.n % 40 WHEN 'web.view' THEN '/page' || a.n % 20 END AS route,
       CASE WHEN a.action = 'api.call' THEN 'token' WHEN a.user_n % 10 = 0 THEN 'oidc' ELSE 'password' END AS method,
       CASE WHEN a.n % 100000 = 11 THEN 'old-idp' WHEN a.user_n % 10 = 0 THEN 'entra-id' ELSE 'local' END AS provider,
       md5('session' || a.user_n || date_trunc('day', a.at))::uuid AS session,
       md5('item' || a.box_n || a.n / 1000)::uuid AS item,
       CASE WHEN a.action NOT LIKE 'auth.%' THEN sp.id END AS workspace_id
FROM act a JOIN who w ON w.n = a.user_n JOIN place l ON l.n = a.ip_n JOIN box b ON b.n = a.box_n JOIN space sp ON sp.n = a.user_n % 20;
DROP TABLE act;

INSERT INTO audit.event (id, retention, recorded_at, db_role, bytes, workspace_id, action, phase, outcome, actor_type, actor_id, target_ids, actor_blind, ip_blind, facts, links)
SELECT y.*, audit.facts(y.bytes), audit.links(y.bytes) FROM (SELECT f.id, f.retention, f.at, 'mailward_app', convert_to(json_build_object(
        'schema', 'gw-audit/1', 'id', f.id, 'time', to_char(f.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'nonce', md5(f.n::text),
        'workspace_id', f.workspace_id, 'category', split_part(f.action, '.', 1), 'action', f.action, 'phase', 'result', 'severity', 'notice',
        'outcome', json_build_object('result', f.outcome, 'code', NULL, 'detail', NULL),
        'actor', json_build_object('type', f.actor_type, 'id', f.user_id, 'display', 'Somebody', 'roles', json_build_array('analyst'),
            'email', json_build_object('c', 'sha256:' || encode(sha256('\x00000000000000000000000000000000'::bytea || f.email::bytea), 'hex'), 'ref', 'pii:actor.email')),
        'auth', json_build_object('method', f.method, 'provider', f.provider, 'session_id', f.session),
        'source', json_build_object('ip', json_build_object('c', 'sha256:' || encode(sha256('\x00000000000000000000000000000000'::bytea || f.ip::bytea), 'hex'), 'ref', 'pii:source.ip'), 'user_agent_class', 'browser'),
        'application', json_build_object('name', f.application, 'version', '1'), 'request', json_build_object('id', md5('r' || f.n), 'method', 'GET', 'path', f.route, 'status', 200, 'duration_ms', 3),
        'targets', json_build_array(json_build_object('type', 'quarantine_item', 'id', f.item, 'label', NULL)),
        'correlation', json_build_object('mail_id', NULL, 'item_id', f.item, 'causation_id', NULL),
        'change', json_build_object('before', NULL, 'after', NULL, 'diff', json_build_array()),
        'approval', CASE WHEN f.action LIKE 'quarantine.release.%' THEN json_build_object('mode', 'required', 'approvers', CASE WHEN f.n % 10 = 0 THEN json_build_array() ELSE json_build_array('x') END) END,
        'class', json_build_object('retention', f.retention))::text, 'UTF8') AS bytes,
    f.workspace_id, f.action, 'result' AS phase, f.outcome, f.actor_type, f.user_id::text, ARRAY[f.item::text], f.actor_blind, f.ip_blind
FROM public.fill_event f ORDER BY f.n) y;

INSERT INTO audit.pii (event_id, path, sealed, blind)
SELECT f.id, x.path, x.sealed, x.blind
FROM public.fill_event f JOIN who w ON w.email = f.email JOIN place l ON l.ip = f.ip JOIN box b ON b.email = f.box,
    LATERAL (VALUES ('actor.email', w.sealed, w.blind), ('source.ip', l.sealed, l.blind), (CASE WHEN f.action LIKE 'quarantine.%' THEN 'targets.0.value' END, b.sealed, b.blind)) x(path, sealed, blind)
WHERE x.path IS NOT NULL;

INSERT INTO audit.leaf (seq, event_id, retention, leaf_hash)
SELECT (SELECT coalesce(max(seq), -1) FROM audit.leaf) + row_number() OVER (ORDER BY f.n), f.id, f.retention, sha256(uuid_send(f.id)) FROM public.fill_event f;
DROP TABLE public.fill_event;
