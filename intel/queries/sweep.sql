-- Deletes expired indicators. $1 now, $2 how many at most
DELETE FROM indicator WHERE ctid = ANY (ARRAY(SELECT ctid FROM indicator WHERE expires_at <= $1 LIMIT $2));
