-- Somebody's exports, the newest first. $1 owner
SELECT id, format, state, written, done, manifest, created_at, updated_at FROM audit_export WHERE owner_id = $1 ORDER BY created_at DESC, id DESC LIMIT 50;
