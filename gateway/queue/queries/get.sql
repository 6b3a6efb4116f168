-- One delivery. $1 id
SELECT d.id, d.workspace_id, d.mail_id, d.item_id, d.kind, d.state, d.envelope_from, d.recipient, d.destination, d.size, d.attempts, d.created_at, d.next_attempt_at,
       d.give_up_at, d.last_attempt_at, d.reply_code, d.reply_text, s.down_until, d.release_id, d.recipient_id
FROM delivery d LEFT JOIN delivery_destination s ON s.name = d.destination
WHERE d.id = $1;
