-- Removes a fingerprint. $1 set, $2 id
DELETE FROM dlp_fingerprint WHERE set_id = $1 AND id = $2;
