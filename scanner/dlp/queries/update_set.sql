-- Changes a set that is still as it was read. $1 id, $2 name, $3 description, $4 direction, $5 enabled, $6 class, $7 score, $8 rules, $9 version or NULL for whatever is there
UPDATE dlp_set SET name = $2, description = $3, direction = $4, enabled = $5, class = $6, score = $7, rules = $8, version = version + 1, updated_at = now()
WHERE id = $1 AND ($9::bigint IS NULL OR version = $9) RETURNING version, updated_at;
