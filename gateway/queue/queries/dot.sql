-- Notes that the final dot goes out next. $1 delivery, $2 owner
UPDATE delivery SET dot_sent_at = now(), updated_at = now() WHERE id = $1 AND lease_owner = $2 AND state = 'delivering' AND dot_sent_at IS NULL;
