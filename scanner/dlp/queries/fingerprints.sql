-- The fingerprints of all sets, with their hashes where $1 is true.
SELECT id, set_id, name, sha256, words, CASE WHEN $1::boolean THEN hashes ELSE '{}' END, created_at FROM dlp_fingerprint ORDER BY set_id, created_at, id;
