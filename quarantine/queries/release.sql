-- One release. $1 id
SELECT id, item_id, recipient_ids, intent_event_id, coalesce(requested_by, '00000000-0000-0000-0000-000000000000'), mode, state, class, asked_by, expires_at, again, prior
FROM release WHERE id = $1;
