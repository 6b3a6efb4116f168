-- A one-time password. $1 account, $2 hash
UPDATE user_account SET password_hash = $2, must_change_password = true WHERE id = $1;
