-- Alerts that fire, not for long, whose rule has a reaction that has not begun for them; with when the last one of this alert began, and how
-- many of the rule are in force. Who silenced the rule knows what happens. $1 how long it may fire already
SELECT a.id, a.rule_id, a.workspace_id, a.subject, a.episode, r.spec, (SELECT max(x.starts_at) FROM alert_reaction x WHERE x.alert_id = a.id),
       (SELECT count(*) FROM alert_reaction x WHERE x.rule_id = r.id AND x.ended_at IS NULL), now()
FROM alert a JOIN alert_rule r ON r.id = a.rule_id
WHERE a.phase = 'firing' AND a.fired_at > now() - $1::interval AND a.silent <> 'silenced' AND r.enabled AND r.deleted_at IS NULL AND r.spec ? 'reaction'
  AND NOT EXISTS (SELECT 1 FROM alert_reaction x WHERE x.alert_id = a.id AND x.episode = a.episode)
ORDER BY a.fired_at, a.id;
