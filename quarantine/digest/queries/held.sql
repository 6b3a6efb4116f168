-- What is held for a recipient, the newest first. $1 workspace, $2 address, $3 classes, $4 not older than, $5 also what was told of, $6 limit
SELECT i.id, r.id, i.class, i.header_from, i.subject, i.received_at
FROM quarantine_recipient r JOIN quarantine_item i ON i.id = r.item_id
WHERE i.workspace_id = $1 AND lower(r.address) = lower($2) AND i.class = ANY ($3) AND i.class <> 'malware' AND i.direction = 'inbound' AND i.blob_removed_at IS NULL AND i.stopped_at IS NULL
  AND r.state = 'quarantined' AND NOT r.added AND i.received_at > $4 AND ($5 OR NOT EXISTS (SELECT FROM digest_link k WHERE k.recipient_id = r.id))
ORDER BY i.received_at DESC, r.id LIMIT $6;
