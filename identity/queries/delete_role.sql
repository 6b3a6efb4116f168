-- $1 account, $2 workspace (null: installation), $3 role
DELETE FROM role_grant WHERE user_id = $1 AND workspace_id IS NOT DISTINCT FROM $2 AND role = $3;
