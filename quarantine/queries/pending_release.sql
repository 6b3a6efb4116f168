-- The release of an item that waits for a second person, locked. $1 item
SELECT id, item_id, recipient_ids, intent_event_id, requested_by, mode, state FROM release WHERE item_id = $1 AND state = 'requested' ORDER BY created_at LIMIT 1 FOR UPDATE;
