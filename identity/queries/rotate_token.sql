-- A new secret; the old one counts until $3. $1 token, $2 hash, $3 until, $4 now
UPDATE api_token SET previous_hash = token_hash, previous_until = $3, token_hash = $2
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4);
