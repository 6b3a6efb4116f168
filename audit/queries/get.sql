-- One event. $1 id
SELECT e.id, e.recorded_at, e.db_role, e.bytes, l.seq, l.leaf_hash
FROM audit.event e LEFT JOIN audit.leaf l ON l.event_id = e.id AND l.retention = e.retention WHERE e.id = $1;
