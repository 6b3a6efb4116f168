-- All overrides that are in force. $1 now
SELECT id, workspace_id, effect, kind, value, class, owner, reason, expires_at, created_by, version, created_at, updated_at
FROM intel_override WHERE expires_at IS NULL OR expires_at > $1;
