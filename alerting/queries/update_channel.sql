-- $1 id, $2 version of the row as it was read, then the fields; the kind stays
UPDATE alert_channel SET name = $3, target = $4, secret = $5, language = $6, everything = $7, severity = $8, per_minute = $9, enabled = $10, version = version + 1, updated_at = now()
WHERE id = $1 AND version = $2 AND deleted_at IS NULL;
