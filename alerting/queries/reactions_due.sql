-- Alerts that fire, not for long, whose rule has a reaction that has not begun for them; with when the last one of this alert began, and how
-- many of the rule are in force. Who silenced it knows what happens, and
-- what somebody has undone since it fires is not begun anew by another rule. $1 how long it may fire already
SELECT a.id, a.rule_id, a.workspace_id, a.subject, a.episode, r.spec, (SELECT max(x.starts_at) FROM alert_reaction x WHERE x.alert_id = a.id),
       (SELECT count(*) FROM alert_reaction x WHERE x.rule_id = r.id AND x.ended_at IS NULL), now()
FROM alert a JOIN alert_rule r ON r.id = a.rule_id
WHERE a.phase = 'firing' AND a.fired_at > now() - $1::interval AND r.enabled AND r.deleted_at IS NULL AND r.spec ? 'reaction'
  AND NOT EXISTS (SELECT 1 FROM alert_reaction x WHERE x.alert_id = a.id AND x.episode = a.episode)
  AND NOT EXISTS (SELECT 1 FROM alert_silence s WHERE s.ended_at IS NULL AND s.starts_at <= now() AND s.ends_at > now()
      AND (s.workspace_id IS NULL OR s.workspace_id = a.workspace_id) AND (s.rule_id IS NULL OR s.rule_id = r.id) AND s.subject IN ('', a.subject))
  AND NOT EXISTS (SELECT 1 FROM alert_reaction u WHERE u.end_kind = 'undo' AND u.ended_at > a.fired_at AND u.kind = r.spec -> 'reaction' ->> 'kind'
      AND u.dry_run = coalesce((r.spec -> 'reaction' ->> 'dry_run')::boolean, false)
      AND (u.workspace_id IS NULL OR u.workspace_id = a.workspace_id) AND u.domain IN ('', a.subject))
ORDER BY a.fired_at, a.id;
