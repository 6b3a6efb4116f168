-- Deletions: the event that is the protocol of each, the digest of leaves that it has
-- (null where that event is gone), and the number of that event.
SELECT p.event_id::text,
       (SELECT convert_from(e.bytes, 'UTF8')::jsonb #>> '{change,before,leaves_sha256}' FROM audit.event e WHERE e.id = p.event_id AND e.action = 'audit.partition.purged'),
       (SELECT l.seq FROM audit.leaf l WHERE l.event_id = p.event_id LIMIT 1)
FROM audit.purge p ORDER BY p.event_id;
