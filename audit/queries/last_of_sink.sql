-- The last thing that the record says of a stream. $1 actions, $2 its name
SELECT e.action FROM audit.event e WHERE e.action = ANY ($1) AND e.target_ids @> ARRAY[$2::text] ORDER BY e.id DESC LIMIT 1;
