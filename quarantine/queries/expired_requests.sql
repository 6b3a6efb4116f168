-- Requests that nobody has answered in time, locked. $1 now, $2 limit
SELECT id, item_id, recipient_ids, intent_event_id, coalesce(requested_by, '00000000-0000-0000-0000-000000000000'), mode, state, class, asked_by, expires_at, again, prior
FROM release WHERE state = 'requested' AND expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED;
