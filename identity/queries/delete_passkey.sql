-- $1 account, $2 passkey
DELETE FROM passkey WHERE user_id = $1 AND id = $2;
