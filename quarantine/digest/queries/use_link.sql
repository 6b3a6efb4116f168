-- A link counts once. $1 id, $2 now
UPDATE digest_link SET used_at = $2 WHERE id = $1 AND used_at IS NULL AND expires_at > $2;
