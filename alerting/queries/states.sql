-- What is remembered of all alerts of rules that are evaluated, and of those that were more than calm when their rule was switched off.
SELECT a.id, a.rule_id, a.workspace_id, a.subject, a.number, a.phase, a.since, a.seen, a.value, a.usual, a.episode, a.fired_at, a.notified_at, a.alarmed, a.acked, a.silent, a.muted, r.spec
FROM alert a JOIN alert_rule r ON r.id = a.rule_id WHERE r.enabled AND r.deleted_at IS NULL OR a.phase <> 'inactive';
