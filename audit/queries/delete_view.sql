-- Removes a view of its owner. $1 id, $2 owner
DELETE FROM audit_view WHERE id = $1 AND owner_id = $2;
