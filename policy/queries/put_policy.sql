-- Makes a policy where there is none. $1 id, $2 workspace, $3 domain, $4 actions
INSERT INTO policy (id, workspace_id, domain, actions) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, domain, direction) DO NOTHING RETURNING id, version, updated_at;
