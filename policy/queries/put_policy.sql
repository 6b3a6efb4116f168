-- Sets a policy, whatever was there. $1 id for a new one, $2 workspace, $3 domain, $4 actions
INSERT INTO policy (id, workspace_id, domain, actions) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, domain, direction) DO UPDATE SET actions = excluded.actions, version = policy.version + 1, updated_at = now()
RETURNING id, version, updated_at;
