-- Makes an entry, unless the workspace has too many. $1 id, $2 workspace, $3 domain, $4 group or NULL, $5 direction, $6 kind, $7 match, $8 value, $9 classes, $10 class, $11 action,
-- $12 owner, $13 reason, $14 end or NULL, $15 who makes it, $16 most
INSERT INTO policy_entry (id, workspace_id, domain, group_id, direction, kind, match, value, classes, class, action, owner, reason, expires_at, created_by)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
WHERE (SELECT count(*) FROM policy_entry WHERE workspace_id = $2) < $16::bigint;
