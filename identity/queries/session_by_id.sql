-- A session that is still open. $1 id, $2 now, $3 it must have been used after
SELECT user_id, authenticated_at, auth_method, provider, protocol, issuer, mfa FROM session WHERE id = $1 AND ended_at IS NULL AND expires_at > $2 AND last_seen_at > $3;
