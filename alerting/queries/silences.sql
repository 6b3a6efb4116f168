-- The silences that are in force at a time, or all of the last 30 days. $1 only those in force
SELECT id, coalesce(workspace_id, '00000000-0000-0000-0000-000000000000'), coalesce(rule_id, '00000000-0000-0000-0000-000000000000'), subject, reason, author, starts_at, ends_at, ended_at
FROM alert_silence WHERE CASE WHEN $1 THEN ended_at IS NULL AND starts_at <= now() AND ends_at > now() ELSE ends_at > now() - interval '30 days' END ORDER BY starts_at DESC, id;
