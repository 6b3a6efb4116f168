-- How far sealing is, and since when the first event after the last checkpoint waits.
WITH last AS (
    SELECT c.origin, c.size, c.signed_at FROM audit.checkpoint c JOIN audit.origin o ON o.name = c.origin ORDER BY o.number DESC, c.size DESC LIMIT 1
)
SELECT coalesce((SELECT origin FROM last), ''), coalesce((SELECT size FROM last), 0), (SELECT signed_at FROM last),
       (SELECT coalesce(max(seq), -1) + 1 FROM audit.leaf) - coalesce((SELECT size FROM last), 0),
       (SELECT e.recorded_at FROM audit.leaf l JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id WHERE l.seq = coalesce((SELECT size FROM last), 0));
