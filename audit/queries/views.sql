-- Somebody's saved views. $1 owner
SELECT id, name, query, created_at FROM audit_view WHERE owner_id = $1 ORDER BY lower(name);
