-- A release of an item that waits for a second person, locked: the oldest, or the one that is named. $1 item, $2 release
SELECT id, item_id, recipient_ids, intent_event_id, coalesce(requested_by, '00000000-0000-0000-0000-000000000000'), mode, state, class, asked_by, expires_at, again, prior
FROM release WHERE item_id = $1 AND state = 'requested' AND ($2::uuid IS NULL OR id = $2) ORDER BY created_at LIMIT 1 FOR UPDATE;
