-- Makes a policy where there is none; no row otherwise. $1 id, $2 workspace, $3 domain, $4 direction, $5 actions, $6 auth or NULL
INSERT INTO policy (id, workspace_id, domain, direction, actions, auth) VALUES ($1, $2, $3, $4, $5, coalesce($6::jsonb, '{}'))
ON CONFLICT (workspace_id, domain, direction) DO NOTHING
RETURNING id, workspace_id, domain, direction, actions, auth, version, updated_at;
