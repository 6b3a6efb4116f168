-- Takes a code, once. $1 account, $2 hash, $3 now
UPDATE recovery_code SET used_at = $3 WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL;
