-- The newest origin, and its last checkpoint.
SELECT o.number, o.name, coalesce(c.note, ''), coalesce(c.signed_at, o.opened_at)
FROM audit.origin o LEFT JOIN LATERAL (SELECT p.note, p.signed_at FROM audit.checkpoint p WHERE p.origin = o.name ORDER BY p.size DESC LIMIT 1) c ON true
ORDER BY o.number DESC LIMIT 1;
