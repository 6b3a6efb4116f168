-- $1 id, $2 version of the row as it was read, $3 enabled
UPDATE alert_rule SET enabled = $3, version = version + 1, updated_at = now() WHERE id = $1 AND version = $2 AND deleted_at IS NULL;
