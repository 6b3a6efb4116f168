-- A token that still counts. $1 id, $2 now
SELECT owner_id, workspace_id, role, scopes FROM api_token WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2);
