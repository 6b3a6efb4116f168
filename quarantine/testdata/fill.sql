-- :items held mails over 400 days, in the shape of a busy installation: some
-- senders, signs and signatures are frequent, most are rare, and a campaign of
-- one mail in a hundred was over a year ago. Nine of ten are of one workspace.
CREATE TABLE public.fill_index AS SELECT indexname AS name, indexdef AS def FROM pg_indexes
    WHERE schemaname = 'public' AND tablename IN ('quarantine_item', 'quarantine_recipient') AND indexdef NOT LIKE 'CREATE UNIQUE%';
DO $$
DECLARE r record;
BEGIN
    FOR r IN SELECT name FROM public.fill_index LOOP EXECUTE format('DROP INDEX public.%I', r.name); END LOOP;
END $$;
INSERT INTO workspace (id, name) SELECT md5('space' || n)::uuid, 'Space ' || n FROM generate_series(1, 9) n;

CREATE TEMP TABLE shape AS
SELECT s.n, now() - interval '1 minute' - (:items - s.n) * (interval '400 days' / :items) AS at, s.p,
       s.n < :items / 5 AND s.n % 20 = 3 AS old, floor(20000 * power(random(), 4))::int AS sender, floor(500 * power(random(), 2))::int AS box,
       floor(3000 * power(random(), 3))::int AS sign, s.n >= :items - :items / 13 AS young, random() AS q
FROM (SELECT n, random() AS p FROM generate_series(1, :items) n) s;

INSERT INTO quarantine_item (id, workspace_id, mail_id, class, score, received_at, expires_at, envelope_from, header_from, subject, message_id, size, sha256,
    reasons, findings, engines, parts, blob_name, state, direction, terms, words)
SELECT (lpad(to_hex((extract(epoch FROM s.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(s.n::text), 1, 3) || 'a' || substr(md5(s.n::text), 4, 15))::uuid,
       CASE WHEN s.n % 10 = 0 THEN md5('space' || 1 + s.n / 10 % 9)::uuid ELSE '00000000-0000-7000-8000-000000000001' END,
       md5('mail' || s.n)::uuid, c.class, (s.p * 30)::real, s.at, s.at + interval '30 days', c.sender, '"' || c.name || '" <' || c.sender || '>', c.subject,
       '<' || md5('mid' || s.n) || '@' || c.domain || '>', 20000 + s.n % 50000, decode(c.hash, 'hex'),
       jsonb_build_array('ClamAV: Win.Trojan.Agent-' || s.sign), c.findings, '[{"engine": "clamav", "version": "1.4", "answered": true, "duration_ms": 20}]',
       jsonb_build_array(jsonb_build_object('path', '1', 'content_type', 'text/plain', 'size', 2000), jsonb_build_object('path', '2', 'name', 'invoice.zip', 'content_type', 'application/zip', 'size', 18000, 'sha256', c.part)),
       md5('blob' || s.n), c.state, CASE WHEN s.n % 50 = 7 THEN 'outbound' ELSE 'inbound' END,
       ARRAY['from:' || c.sender, 'from:@' || c.domain, 'hash:' || c.hash, 'mid:' || md5('mid' || s.n) || '@' || c.domain, 'shape:' || c.shape, 'to:' || c.box, 'to:@ours' || s.box % 20 || '.example',
           'sym:spf_fail', 'sym:sign_' || s.sign, 'sym:url_young', 'url:' || c.link, 'hash:' || c.part, 'yara:rule_' || s.sign % 300, 'sig:win.trojan.agent-' || s.sign]
           || CASE WHEN s.old THEN ARRAY['sym:old_campaign'] ELSE '{}' END,
       lower(c.subject || E'\n' || '"' || c.name || '" <' || c.sender || '>' || E'\n' || c.box || E'\n' || 'spf_fail' || E'\n' || 'win.trojan.agent-' || s.sign)
FROM shape s, LATERAL (SELECT
    CASE WHEN s.p < 0.35 THEN 'malware' WHEN s.p < 0.65 THEN 'phishing' WHEN s.p < 0.9 THEN 'suspicious' WHEN s.p < 0.97 THEN 'unscannable' WHEN s.p < 0.999 THEN 'dlp' ELSE 'encrypted' END AS class,
    CASE WHEN NOT s.young AND s.q < 0.9 THEN 'expired' WHEN s.q < 0.93 THEN 'deleted' WHEN s.q < 0.97 THEN 'released' WHEN s.young AND s.q > 0.999 THEN 'release_requested'
         WHEN NOT s.young THEN 'expired' WHEN s.q < 0.98 THEN 'held' ELSE 'quarantined' END AS state,
    'user' || s.sender || '@mail' || s.sender % 4000 || '.example' AS sender, 'mail' || s.sender % 4000 || '.example' AS domain, 'Sender ' || s.sender AS name,
    'box' || s.box || '@ours' || s.box % 20 || '.example' AS box,
    CASE WHEN s.old THEN 'Parcel ' || s.n || ' waits for you' ELSE (ARRAY['Invoice', 'Your account', 'Reminder', 'Quarterly figures', 'Urgent payment', 'Meeting'])[1 + s.sender % 6] || ' ' || (ARRAY['for', 'of', 'about', 'from'])[1 + s.sign % 4] || ' ' || md5((s.sign % 900)::text) END AS subject,
    CASE WHEN s.old THEN 'parcel # waits for you' ELSE 'shape ' || s.sender % 6 || s.sign % 900 END AS shape,
    encode(sha256(convert_to('mail' || s.n / 2, 'UTF8')), 'hex') AS hash, encode(sha256(convert_to('part' || s.sign, 'UTF8')), 'hex') AS part,
    'kit' || s.sender % 5000 || '.example/login' AS link,
    jsonb_build_array(jsonb_build_object('engine', 'clamav', 'name', 'Win.Trojan.Agent-' || s.sign, 'class', 'malware', 'score', 10, 'reason', 'known malware'),
        jsonb_build_object('engine', 'phishing', 'name', 'spf_fail', 'score', 2, 'reason', 'the sender is not allowed to send for its domain')) AS findings) c;

INSERT INTO quarantine_recipient (id, workspace_id, item_id, address, state)
SELECT md5('rcpt' || i.mail_id)::uuid, i.workspace_id, i.id, substr(t.to_, 4), i.state
FROM quarantine_item i, LATERAL (SELECT i.terms[6] AS to_) t;

DO $$
DECLARE r record;
BEGIN
    SET LOCAL maintenance_work_mem = '1GB';
    FOR r IN SELECT def FROM public.fill_index LOOP EXECUTE r.def; END LOOP;
    DROP TABLE public.fill_index;
END $$;
VACUUM ANALYZE;
