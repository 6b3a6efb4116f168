-- Adds one event. $1 id, $2 its bytes, $3 its personal values (JSON).
SELECT audit.append($1, $2, $3::jsonb);
