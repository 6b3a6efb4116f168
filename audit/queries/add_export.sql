-- Notes an export, and forgets those of more than a month ago. $1 id, $2 owner, $3 format
WITH old AS (DELETE FROM audit_export WHERE created_at < now() - interval '31 days')
INSERT INTO audit_export (id, owner_id, format) VALUES ($1, $2, $3);
