-- Changes a group that is still as it was read. $1 id, $2 workspace, $3 name, $4 members, $5 rank, $6 version
UPDATE recipient_group SET name = $3, members = $4, rank = $5, version = version + 1, updated_at = now()
WHERE id = $1 AND workspace_id = $2 AND version = $6 RETURNING id, workspace_id, name, members, rank, version, created_at, updated_at;
