-- Removes an entry. $1 id, $2 workspace
DELETE FROM policy_entry WHERE id = $1 AND workspace_id = $2;
