-- The personal values of some events. $1 event ids
SELECT event_id, path, value FROM audit.pii WHERE event_id = ANY ($1);
