-- $1 account
DELETE FROM recovery_code WHERE user_id = $1;
