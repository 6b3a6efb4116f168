-- Every leaf with its event, in order; the event's columns are null where it is gone.
SELECT l.seq, l.event_id::text, l.leaf_hash, e.recorded_at, e.bytes
FROM audit.leaf l LEFT JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id
ORDER BY l.seq;
