-- $1 id, $2 account, $3 hash, $4 now
INSERT INTO recovery_code (id, user_id, code_hash, created_at) VALUES ($1, $2, $3, $4);
