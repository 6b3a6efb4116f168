-- $1 account, $2 state
UPDATE user_account SET state = $2 WHERE id = $1;
