-- Removes a set and its fingerprints. $1 id
DELETE FROM dlp_set WHERE id = $1;
