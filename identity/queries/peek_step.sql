-- $1 hash of the token, $2 kind, $3 now
SELECT user_id, session_id, data FROM sign_in_step WHERE token_hash = $1 AND kind = $2 AND expires_at > $3;
