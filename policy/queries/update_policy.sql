-- Changes a policy that is still as it was read. $1 workspace, $2 domain, $3 actions, $4 version
UPDATE policy SET actions = $3, version = version + 1, updated_at = now()
WHERE workspace_id = $1 AND domain = $2 AND direction = 'inbound' AND version = $4 RETURNING id, version, updated_at;
