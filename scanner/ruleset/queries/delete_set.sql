-- Takes a set out of use for good. $1 id, $2 its version
UPDATE yara_set SET enabled = false, deleted_at = now(), version = version + 1, updated_at = now() WHERE id = $1 AND version = $2 AND deleted_at IS NULL;
