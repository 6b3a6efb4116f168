-- All tokens, the newest first.
SELECT t.id, t.workspace_id, t.name, t.role, t.scopes, t.owner_id, u.email, t.created_at, t.expires_at, t.revoked_at, t.last_used_at, t.last_used_ip
FROM api_token t JOIN user_account u ON u.id = t.owner_id ORDER BY t.created_at DESC, t.id DESC;
