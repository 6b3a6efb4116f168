-- Hashes of nodes. $1 first, $2 how many, $3 level
SELECT hash FROM audit.node WHERE level = $3 AND idx >= $1::bigint AND idx < $1::bigint + $2::integer ORDER BY idx;
