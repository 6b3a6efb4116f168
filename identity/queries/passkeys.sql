-- $1 account
SELECT id, credential_id, record, name, created_at, last_used_at FROM passkey WHERE user_id = $1 ORDER BY created_at, id;
