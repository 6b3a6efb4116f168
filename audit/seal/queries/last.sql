-- The newest checkpoint.
SELECT c.origin, c.size, c.root, c.note, c.signed_at FROM audit.checkpoint c JOIN audit.origin o ON o.name = c.origin
ORDER BY o.number DESC, c.size DESC LIMIT 1;
