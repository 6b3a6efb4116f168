-- What alerts went through, the newest first. $1 workspaces, null for all, $2 one alert, or null, $3 before this one, or null, $4 how many
SELECT e.id, e.alert_id, e.at, e.phase, e.before, e.value, e.number, e.late, a.rule_id, a.workspace_id, a.subject, r.spec ->> 'name', r.spec ->> 'severity', r.spec ->> 'metric'
FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN alert_rule r ON r.id = a.rule_id
WHERE ($1::uuid[] IS NULL OR a.workspace_id = ANY ($1)) AND ($2::uuid IS NULL OR e.alert_id = $2) AND ($3::uuid IS NULL OR e.id < $3) ORDER BY e.id DESC LIMIT $4;
