-- An open session. The cookie before the last change works a minute longer, for
-- calls that were under way. $1 hash of the cookie, $2 now, $3 it must have been used after
SELECT id, user_id, last_seen_at, authenticated_at, auth_method, provider, protocol, issuer, mfa FROM session
WHERE (token_hash = $1 OR previous_hash = $1 AND rotated_at > $2::timestamptz - interval '1 minute')
  AND ended_at IS NULL AND expires_at > $2 AND last_seen_at > $3;
