-- Blobs that another key than this wraps. $1 key, $2 after this name, $3 how many
SELECT name, wrapped_key FROM blob WHERE wrapped_by <> $1 AND name > $2 ORDER BY name LIMIT $3;
