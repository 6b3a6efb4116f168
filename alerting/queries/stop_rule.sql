-- Ends the alerts of rules that are evaluated no more, without a word: the rule was switched off or deleted.
UPDATE alert a SET phase = 'inactive', since = now(), alarmed = false, acked = false, silent = '', muted = false
FROM alert_rule r WHERE r.id = a.rule_id AND (r.deleted_at IS NOT NULL OR NOT r.enabled) AND a.phase <> 'inactive' RETURNING a.id, a.number, a.episode;
