-- One release, and whether one person was enough at its time. $1 id
SELECT r.id, r.item_id, r.recipient_ids, r.intent_event_id, coalesce(r.requested_by, '00000000-0000-0000-0000-000000000000'), r.mode, r.state,
       r.mode IN ('required', 'sandbox') OR NOT EXISTS (SELECT FROM setting s WHERE s.key = 'four_eyes' AND s.value = '"required"' AND s.updated_at <= r.created_at)
FROM release r WHERE r.id = $1;
