-- Changes a policy. $1 id, $2 actions, $3 auth, $4 lines
UPDATE policy SET actions = $2, auth = $3, lines = $4, version = version + 1, updated_at = now()
WHERE id = $1 RETURNING id, workspace_id, domain, group_id, direction, actions, auth, lines, version, updated_at;
