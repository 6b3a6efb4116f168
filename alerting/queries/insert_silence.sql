-- $1 id, $2 workspace or null, $3 rule or null, $4 subject, $5 reason, $6 author's id or null, $7 author, $8 how long
INSERT INTO alert_silence (id, workspace_id, rule_id, subject, reason, author_id, author, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval);
