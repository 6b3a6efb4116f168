-- $1 account, $2 provider
DELETE FROM external_identity WHERE user_id = $1 AND provider = $2;
