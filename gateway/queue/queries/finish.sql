-- Ends a delivery. $1 delivery, $2 owner, $3 state, $4 next hop, $5 code, $6 text
UPDATE delivery SET state = $3, next_hop = $4, reply_code = $5, reply_text = $6, lease_until = NULL, warn_at = NULL, updated_at = now()
WHERE id = $1 AND lease_owner = $2 AND state = 'delivering';
