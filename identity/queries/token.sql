-- A token that counts. $1 hash, $2 now
SELECT id, owner_id, workspace_id, role, last_used_at FROM api_token
WHERE token_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2);
