-- The person has shown again who they are; the cookie changes. $1 session, $2 now, $3 hash of the new cookie
UPDATE session SET authenticated_at = $2, previous_hash = token_hash, token_hash = $3, rotated_at = $2 WHERE id = $1 AND ended_at IS NULL;
