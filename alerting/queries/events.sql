-- What alerts went through, the newest first. $1 workspaces, null for all, $2 one alert, or null, $3 before this one, or null, $4 how many,
-- $5 severity, $6 state and $7 a part of the rule's name or of what it concerns, each or ''
SELECT e.id, e.alert_id, e.at, e.phase, e.before, e.value, e.number, e.late, a.rule_id, a.workspace_id, a.subject, r.spec ->> 'name', r.spec ->> 'severity', r.spec ->> 'metric'
FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN alert_rule r ON r.id = a.rule_id
WHERE ($1::uuid[] IS NULL OR a.workspace_id = ANY ($1)) AND ($2::uuid IS NULL OR e.alert_id = $2) AND ($3::uuid IS NULL OR e.id < $3)
  AND ($5 = '' OR r.spec ->> 'severity' = $5) AND ($6 = '' OR e.phase = $6) AND ($7 = '' OR position(lower($7) IN lower(concat_ws(' ', r.spec ->> 'name', a.subject))) > 0)
ORDER BY e.id DESC LIMIT $4;
