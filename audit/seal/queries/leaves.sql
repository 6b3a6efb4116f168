-- Hashes of leaves. $1 first, $2 how many
SELECT leaf_hash FROM audit.leaf WHERE seq >= $1::bigint AND seq < $1::bigint + $2::integer ORDER BY seq;
