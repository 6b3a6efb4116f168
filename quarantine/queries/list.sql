-- One page of items, newest first. $1 workspaces, $2 search text, $3 the same for LIKE, $4 classes, $5 states,
-- $6 recipient domain, $7 from, $8 to, $9 and $10 place of the page before, $11 limit, $12 direction
SELECT i.id, i.mail_id, i.workspace_id, i.class, i.state, i.score, i.received_at, i.expires_at, host(i.client_ip), i.helo, i.envelope_from,
       i.header_from, i.subject, i.message_id, i.size, i.sha256, i.reasons, i.findings, i.engines, i.parts, i.auth, i.header_edits, i.trace_header,
       i.smtputf8, i.eight_bit, i.blob_key, i.blob_name, i.blob_removed_at, i.direction, i.malicious_late_at
FROM quarantine_item i
WHERE i.workspace_id = ANY ($1)
  AND ($2 = '' OR lower(i.subject) LIKE $3 OR lower(i.envelope_from) LIKE $3 OR lower(i.header_from) LIKE $3
       OR i.id::text = $2 OR i.mail_id::text = $2 OR encode(i.sha256, 'hex') = lower($2) OR i.message_id = $2
       OR EXISTS (SELECT FROM quarantine_recipient r WHERE r.item_id = i.id AND lower(r.address) LIKE $3))
  AND ($4::text[] IS NULL OR i.class = ANY ($4))
  AND ($5::text[] IS NULL OR i.state = ANY ($5))
  AND ($6 = '' OR EXISTS (SELECT FROM quarantine_recipient r WHERE r.item_id = i.id AND right(lower(r.address), length($6) + 1) = '@' || $6))
  AND ($7::timestamptz IS NULL OR i.received_at >= $7)
  AND ($8::timestamptz IS NULL OR i.received_at < $8)
  AND ($9::timestamptz IS NULL OR (i.received_at, i.id) < ($9, $10::uuid))
  AND ($12 = '' OR i.direction = $12)
ORDER BY i.received_at DESC, i.id DESC LIMIT $11;
