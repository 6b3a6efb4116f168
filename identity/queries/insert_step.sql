-- $1 hash of the token, $2 kind, $3 account or null, $4 session or null, $5 data, $6 end
INSERT INTO sign_in_step (token_hash, kind, user_id, session_id, data, expires_at) VALUES ($1, $2, $3, $4, $5, $6);
