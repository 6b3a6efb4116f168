-- Accounts that can sign in and have a role in a workspace, by name. $1 workspace
SELECT u.id, coalesce(nullif(u.name, ''), u.email) FROM user_account u
WHERE u.state = 'active' AND EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND g.workspace_id = $1) ORDER BY 2, 1;
