-- Adds a set, where the workspace has fewer than $10. $1 id, $2 workspace, $3 name, $4 description, $5 direction, $6 enabled, $7 class, $8 score, $9 rules
INSERT INTO dlp_set (id, workspace_id, name, description, direction, enabled, class, score, rules)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE (SELECT count(*) FROM dlp_set WHERE workspace_id = $2) < $10::bigint
RETURNING version, updated_at;
