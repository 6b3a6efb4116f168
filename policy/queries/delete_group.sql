-- Removes a group. $1 id, $2 workspace
DELETE FROM recipient_group WHERE id = $1 AND workspace_id = $2;
