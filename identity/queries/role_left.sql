-- Whether some open account has a role. $1 workspace (null: installation), $2 role
SELECT EXISTS (SELECT FROM role_grant g JOIN user_account u ON u.id = g.user_id
               WHERE g.workspace_id IS NOT DISTINCT FROM $1 AND g.role = $2 AND u.state = 'active');
