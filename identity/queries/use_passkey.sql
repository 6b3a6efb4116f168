-- $1 account, $2 credential, $3 record, $4 now
UPDATE passkey SET record = $3, last_used_at = $4 WHERE user_id = $1 AND credential_id = $2;
