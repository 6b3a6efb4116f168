-- Makes a policy where there is none; no row otherwise. $1 id, $2 workspace, $3 domain, $4 group or NULL, $5 direction, $6 actions, $7 auth, $8 lines
INSERT INTO policy (id, workspace_id, domain, group_id, direction, actions, auth, lines) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (workspace_id, domain, group_id, direction) DO NOTHING
RETURNING id, workspace_id, domain, group_id, direction, actions, auth, lines, version, updated_at;
