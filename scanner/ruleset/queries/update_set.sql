-- Changes a set that is still as it was read. $1 id, $2 its version, $3 name, $4 description, $5 class, $6 score, $7 version in use, $8 enabled
UPDATE yara_set SET name = $3, description = $4, class = $5, score = $6, number = $7, enabled = $8, version = version + 1, updated_at = now()
WHERE id = $1 AND version = $2 AND deleted_at IS NULL;
