-- Alerts with their rules and who has them in hand. $1 workspaces, null for all, $2 only those that are more than calm, $3 one of them, or null, $4 of one rule, or null
SELECT a.id, a.rule_id, a.workspace_id, a.subject, a.number, a.phase, a.since, a.seen, a.value, a.usual, a.episode, a.fired_at, a.notified_at, a.alarmed, a.acked, a.silent, a.muted,
       r.spec, coalesce(k.author, ''), coalesce(k.note, ''), k.created_at
FROM alert a JOIN alert_rule r ON r.id = a.rule_id LEFT JOIN alert_ack k ON k.alert_id = a.id AND k.episode = a.episode
WHERE r.deleted_at IS NULL AND ($1::uuid[] IS NULL OR a.workspace_id = ANY ($1)) AND (NOT $2 OR a.phase IN ('firing', 'pending', 'resolved', 'no_data', 'error'))
  AND ($3::uuid IS NULL OR a.id = $3) AND ($4::uuid IS NULL OR a.rule_id = $4)
ORDER BY array_position(ARRAY['firing', 'pending', 'error', 'no_data', 'resolved', 'inactive'], a.phase), array_position(ARRAY['critical', 'warn', 'info'], r.spec ->> 'severity'), a.since DESC, a.id LIMIT 500;
