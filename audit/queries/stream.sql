-- Numbered events from $1 on, at most $2.
SELECT e.id, e.recorded_at, e.db_role, e.bytes, l.seq, l.leaf_hash
FROM audit.leaf l JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id
WHERE l.seq >= $1 ORDER BY l.seq LIMIT $2;
