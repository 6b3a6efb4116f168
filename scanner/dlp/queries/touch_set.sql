-- Counts a change of a set's fingerprints as one of the set. $1 id
UPDATE dlp_set SET version = version + 1, updated_at = now() WHERE id = $1 RETURNING workspace_id;
