-- One override. $1 id
SELECT id, workspace_id, effect, kind, value, class, owner, reason, expires_at, created_by, version, created_at, updated_at FROM intel_override WHERE id = $1;
