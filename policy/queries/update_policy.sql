-- Changes a policy that is still as it was read. $1 workspace, $2 domain, $3 direction, $4 actions, $5 auth or NULL to leave it, $6 version
UPDATE policy SET actions = $4, auth = coalesce($5::jsonb, auth), version = version + 1, updated_at = now()
WHERE workspace_id = $1 AND domain = $2 AND direction = $3 AND version = $6 RETURNING id, workspace_id, domain, direction, actions, auth, version, updated_at;
