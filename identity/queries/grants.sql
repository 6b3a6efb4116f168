-- The roles of an account. $1 account
SELECT workspace_id, role FROM role_grant WHERE user_id = $1 ORDER BY role;
