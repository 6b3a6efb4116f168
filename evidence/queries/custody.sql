-- The chain of an export, with the numbers of its events. $1 export
SELECT c.at, c.event, coalesce(c.actor_id::text, ''), c.actor, c.place, c.reason, c.event_id, l.seq FROM evidence_custody c LEFT JOIN audit.leaf l ON l.event_id = c.event_id
WHERE c.export_id = $1 ORDER BY c.at, c.id;
