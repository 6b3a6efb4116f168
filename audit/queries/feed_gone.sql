-- Numbers from $1 to before $2 whose events are not there any more, in runs; with
-- the protocol of the deletion where there was one.
SELECT min(g.seq), max(g.seq), g.protocol
FROM (
    SELECT l.seq, p.event_id AS protocol, l.seq - row_number() OVER (PARTITION BY p.event_id ORDER BY l.seq) AS run
    FROM audit.leaf l
    LEFT JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id
    LEFT JOIN audit.purge p ON p.retention = l.retention AND l.event_id >= p.from_id AND l.event_id < p.end_id
    WHERE l.seq >= $1 AND l.seq < $2 AND e.id IS NULL
) g
GROUP BY g.run, g.protocol
ORDER BY 1;
