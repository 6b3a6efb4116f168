-- One release. $1 id
SELECT id, item_id, recipient_ids, intent_event_id, requested_by, mode, state FROM release WHERE id = $1;
