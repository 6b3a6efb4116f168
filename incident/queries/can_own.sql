-- Whether an account can own incidents of a workspace: it can sign in and has a role there. $1 workspace, $2 account
SELECT EXISTS (SELECT FROM user_account u JOIN role_grant g ON g.user_id = u.id WHERE u.id = $2 AND u.state = 'active' AND g.workspace_id = $1);
