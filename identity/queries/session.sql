-- An open session. $1 hash of the cookie, $2 now, $3 it must have been used after
SELECT id, user_id, last_seen_at, authenticated_at, auth_method FROM session
WHERE token_hash = $1 AND ended_at IS NULL AND expires_at > $2 AND last_seen_at > $3;
