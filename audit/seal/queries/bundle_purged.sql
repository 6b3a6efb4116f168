-- Deleted events by their protocol, with the number of that event. $1 before that number
SELECT p.event_id::text, array_agg(l.seq ORDER BY l.seq), (SELECT x.seq FROM audit.leaf x WHERE x.event_id = p.event_id LIMIT 1) FROM audit.purge p
JOIN audit.leaf l ON l.retention = p.retention AND l.event_id >= p.from_id AND l.event_id < p.end_id
WHERE l.seq < $1 GROUP BY p.event_id;
