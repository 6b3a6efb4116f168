-- Adds a fingerprint, where the set has fewer than $8; after touch_set, whose row lock puts those who add in a queue.
-- $1 id, $2 set, $3 workspace, $4 name, $5 sha256, $6 words, $7 hashes
INSERT INTO dlp_fingerprint (id, set_id, workspace_id, name, sha256, words, hashes)
SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM dlp_fingerprint WHERE set_id = $2) < $8::bigint
RETURNING created_at;
