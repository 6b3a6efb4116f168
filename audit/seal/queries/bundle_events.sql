-- Events of a part of the record, in order. $1 from, $2 before (numbers), $3 workspace, $4 most
SELECT l.seq, e.id::text, e.recorded_at, e.retention, convert_from(e.bytes, 'UTF8'), e.id
FROM audit.leaf l JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id
WHERE l.seq >= $1 AND l.seq < $2 AND ($3::uuid IS NULL OR e.workspace_id = $3) ORDER BY l.seq LIMIT $4;
