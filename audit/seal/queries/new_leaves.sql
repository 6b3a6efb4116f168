-- Leaves with their events, which are null where they are gone. $1 from, $2 before
SELECT l.seq, l.event_id::text, l.leaf_hash, e.recorded_at, e.bytes
FROM audit.leaf l LEFT JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id
WHERE l.seq >= $1 AND l.seq < $2 ORDER BY l.seq;
