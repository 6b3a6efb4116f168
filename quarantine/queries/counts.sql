-- Items per class, counted up to a cap. $1 to $8 as in list.sql, $9 cap, $10 direction
SELECT class, count(*) FROM (
SELECT i.class FROM quarantine_item i
WHERE i.workspace_id = ANY ($1)
  AND ($2 = '' OR lower(i.subject) LIKE $3 OR lower(i.envelope_from) LIKE $3 OR lower(i.header_from) LIKE $3
       OR i.id::text = $2 OR i.mail_id::text = $2 OR encode(i.sha256, 'hex') = lower($2) OR i.message_id = $2
       OR EXISTS (SELECT FROM quarantine_recipient r WHERE r.item_id = i.id AND lower(r.address) LIKE $3))
  AND ($4::text[] IS NULL OR i.class = ANY ($4))
  AND ($5::text[] IS NULL OR i.state = ANY ($5))
  AND ($6 = '' OR EXISTS (SELECT FROM quarantine_recipient r WHERE r.item_id = i.id AND right(lower(r.address), length($6) + 1) = '@' || $6))
  AND ($7::timestamptz IS NULL OR i.received_at >= $7)
  AND ($8::timestamptz IS NULL OR i.received_at < $8)
  AND ($10 = '' OR i.direction = $10)
LIMIT $9) x GROUP BY class;
