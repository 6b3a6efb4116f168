-- How many alerts fire, by severity and whether somebody has them in hand. $1 workspaces, null for all
SELECT r.spec ->> 'severity', a.acked, count(*) FROM alert a JOIN alert_rule r ON r.id = a.rule_id
WHERE a.phase = 'firing' AND r.deleted_at IS NULL AND ($1::uuid[] IS NULL OR a.workspace_id = ANY ($1)) GROUP BY 1, 2;
