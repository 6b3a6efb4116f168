-- Sets a policy, whatever was there. $1 id for a new one, $2 workspace, $3 domain, $4 direction, $5 actions, $6 auth or NULL to leave it
INSERT INTO policy (id, workspace_id, domain, direction, actions, auth) VALUES ($1, $2, $3, $4, $5, coalesce($6::jsonb, '{}'))
ON CONFLICT (workspace_id, domain, direction) DO UPDATE SET actions = excluded.actions, auth = coalesce($6::jsonb, policy.auth), version = policy.version + 1, updated_at = now()
RETURNING id, workspace_id, domain, direction, actions, auth, version, updated_at;
