-- $1 name or id
SELECT id FROM workspace WHERE id::text = lower($1) OR lower(name) = lower($1) ORDER BY id LIMIT 1;
