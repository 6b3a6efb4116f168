-- $1 rule, $2 number, $3 spec, $4 reason, $5 author's id or null, $6 author
INSERT INTO alert_rule_version (rule_id, number, spec, reason, author_id, author) VALUES ($1, $2, $3, $4, $5, $6);
