-- All rules that are not deleted.
SELECT r.id, coalesce(r.workspace_id, '00000000-0000-0000-0000-000000000000'), coalesce(r.pack, ''), r.enabled, r.number, r.spec, r.version, r.updated_at,
       v.author, v.created_at, v.reason,
       (SELECT max(a.fired_at) FROM alert a WHERE a.rule_id = r.id),
       (SELECT count(*) FROM alert_event e JOIN alert a ON a.id = e.alert_id WHERE a.rule_id = r.id AND e.phase = 'firing' AND e.at > now() - interval '7 days')
FROM alert_rule r JOIN alert_rule_version v ON v.rule_id = r.id AND v.number = r.number
WHERE r.deleted_at IS NULL AND ($1::uuid IS NULL OR r.id = $1) ORDER BY lower(r.spec ->> 'name'), r.id;
