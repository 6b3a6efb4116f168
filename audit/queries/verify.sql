-- Every leaf with its event, in order; the event's columns are null where it is
-- gone, and protocol is the event that tells of that. astray says whether what
-- it is searched by is not what its bytes say. After them the events that have no
-- leaf and do not wait for one.
SELECT l.seq, l.event_id::text, l.leaf_hash, e.recorded_at, e.bytes, e.action, e.actor_id, e.outcome,
       CASE WHEN e.id IS NULL THEN (SELECT p.event_id::text FROM audit.purge p WHERE p.retention = l.retention AND l.event_id >= p.from_id AND l.event_id < p.end_id LIMIT 1) END AS protocol,
       e.facts IS DISTINCT FROM audit.facts(e.bytes) OR NOT (e.links @> audit.links(e.bytes) AND e.links <@ audit.links(e.bytes)) AS astray
FROM audit.leaf l LEFT JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id
UNION ALL
SELECT NULL, e.id::text, NULL, e.recorded_at, e.bytes, e.action, e.actor_id, e.outcome, NULL, false
FROM audit.event e
WHERE NOT EXISTS (SELECT FROM audit.leaf l WHERE l.event_id = e.id AND l.retention = e.retention)
  AND NOT EXISTS (SELECT FROM audit.unsequenced u WHERE u.id = e.id)
ORDER BY 1 NULLS LAST;
