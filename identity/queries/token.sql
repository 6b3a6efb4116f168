-- The token with this secret, also one that counts no more: whether its secret still does is the last column. $1 hash, $2 now
SELECT id, owner_id, workspace_id, role, scopes, last_used_at, last_used_ip, expires_at, revoked_at, token_hash = $1 OR previous_until > $2
FROM api_token WHERE token_hash = $1 OR previous_hash = $1;
