-- Receipts of checkpoints. $1 origin number up to which, $2 size up to which under that one
SELECT a.origin, a.size, a.name, a.kind, a.target, a.receipt, a.detail, a.at FROM audit.anchor a JOIN audit.origin o ON o.name = a.origin
WHERE a.ok AND (o.number < $1 OR (o.number = $1 AND a.size <= $2)) ORDER BY a.at, a.id;
