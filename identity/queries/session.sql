-- An open session. The cookie before the last change works a minute longer, for
-- calls that were under way; that somebody has shown again who they are counts for
-- the new one alone. $1 hash of the cookie, $2 now, $3 it must have been used after
SELECT id, user_id, last_seen_at, CASE WHEN token_hash = $1 THEN authenticated_at ELSE created_at END, auth_method, provider, protocol, issuer, mfa FROM session
WHERE (token_hash = $1 OR previous_hash = $1 AND rotated_at > $2::timestamptz - interval '1 minute')
  AND ended_at IS NULL AND expires_at > $2 AND last_seen_at > $3;
