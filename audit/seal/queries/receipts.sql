-- Tries to anchor, newest first. $1 most, $2 before that id, $3 only those that worked
SELECT a.id, a.origin, a.size, a.name, a.kind, a.target, a.ok, a.receipt, a.detail, a.at
FROM audit.anchor a WHERE ($2::uuid IS NULL OR a.id < $2) AND (NOT $3::boolean OR a.ok) ORDER BY a.id DESC LIMIT $1;
