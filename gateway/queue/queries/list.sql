-- One page of deliveries, newest first. $1 workspaces, $2 states, $3 kinds, $4 destination, $5 mail, $6 search text, $7 the same for LIKE, $8 cursor, $9 limit
SELECT d.id, d.workspace_id, d.mail_id, d.item_id, d.kind, d.state, d.envelope_from, d.recipient, d.destination, d.size, d.attempts, d.created_at, d.next_attempt_at,
       d.give_up_at, d.last_attempt_at, d.reply_code, d.reply_text, s.down_until, d.release_id, d.recipient_id
FROM delivery d LEFT JOIN delivery_destination s ON s.name = d.destination
WHERE d.workspace_id = ANY ($1)
  AND ($2::text[] IS NULL OR d.state = ANY ($2))
  AND ($3::text[] IS NULL OR d.kind = ANY ($3))
  AND ($4 = '' OR d.destination = $4)
  AND ($5::uuid IS NULL OR d.mail_id = $5)
  AND ($6 = '' OR lower(d.recipient) LIKE $7 OR lower(d.envelope_from) LIKE $7 OR lower(d.reply_text) LIKE $7 OR d.id::text = $6 OR d.mail_id::text = $6)
  AND ($8::uuid IS NULL OR d.id < $8)
ORDER BY d.id DESC LIMIT $9;
