-- The releases of an item that have deliveries under way, locked. $1 item
SELECT id, item_id, recipient_ids, intent_event_id, coalesce(requested_by, '00000000-0000-0000-0000-000000000000'), mode, state, class, asked_by, expires_at, again, prior
FROM release WHERE item_id = $1 AND state = 'approved' ORDER BY created_at FOR UPDATE;
