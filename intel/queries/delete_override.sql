-- Deletes one. $1 id
DELETE FROM intel_override WHERE id = $1;
