-- All checkpoints, in the order of signing. $1 origin number up to which, $2 size up to which under that one
SELECT o.number, c.signed_at, c.note FROM audit.checkpoint c JOIN audit.origin o ON o.name = c.origin
WHERE o.number < $1 OR (o.number = $1 AND c.size <= $2) ORDER BY o.number, c.size;
