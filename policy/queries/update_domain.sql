-- Changes a domain that is still as it was read. $1 name, $2 next hop, $3 version
UPDATE domain SET next_hop = $2, version = version + 1, updated_at = now() WHERE name = $1 AND version = $3;
