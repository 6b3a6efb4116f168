-- Keeps a claim. $1 delivery, $2 owner, $3 lease
UPDATE delivery SET lease_until = now() + $3::interval WHERE id = $1 AND lease_owner = $2 AND state = 'delivering';
