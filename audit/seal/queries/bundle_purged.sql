-- Deleted events by their protocol. $1 before that number
SELECT p.event_id::text, array_agg(l.seq ORDER BY l.seq) FROM audit.purge p
JOIN audit.leaf l ON l.retention = p.retention AND l.event_id >= p.from_id AND l.event_id < p.end_id
WHERE l.seq < $1 GROUP BY p.event_id;
