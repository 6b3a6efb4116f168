-- The versions of a rule, the newest first. $1 rule
SELECT number, spec, reason, author, created_at FROM alert_rule_version WHERE rule_id = $1 ORDER BY number DESC LIMIT 100;
