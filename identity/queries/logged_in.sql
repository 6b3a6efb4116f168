-- $1 account, $2 now
UPDATE user_account SET last_login_at = $2 WHERE id = $1;
