-- $1 id, $2 version of the row as it was read
UPDATE alert_channel SET deleted_at = now(), enabled = false, version = version + 1, updated_at = now() WHERE id = $1 AND version = $2 AND deleted_at IS NULL;
