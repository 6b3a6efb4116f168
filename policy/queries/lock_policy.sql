-- One policy, locked. $1 workspace, $2 domain, $3 group or NULL, $4 direction
SELECT id, workspace_id, domain, group_id, direction, actions, auth, lines, version, updated_at FROM policy
WHERE workspace_id = $1 AND domain = $2 AND group_id IS NOT DISTINCT FROM $3 AND direction = $4 FOR UPDATE;
