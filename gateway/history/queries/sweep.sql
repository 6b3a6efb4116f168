-- Forgets who has not been seen for long. $1 since when, $2 how many at most
DELETE FROM sender_history WHERE ctid = ANY (ARRAY(SELECT ctid FROM sender_history WHERE last_seen < $1 LIMIT $2));
