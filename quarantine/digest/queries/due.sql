-- Who has something that they were not told of, a page of them. $1 workspace, $2 classes, $3 not older than, $4 after this address, $5 limit
SELECT DISTINCT lower(r.address)
FROM quarantine_recipient r JOIN quarantine_item i ON i.id = r.item_id
WHERE i.workspace_id = $1 AND i.class = ANY ($2) AND i.class <> 'malware' AND i.direction = 'inbound' AND i.blob_removed_at IS NULL AND i.stopped_at IS NULL
  AND r.state = 'quarantined' AND NOT r.added AND i.received_at > $3 AND lower(r.address) > $4 AND NOT EXISTS (SELECT FROM digest_link k WHERE k.recipient_id = r.id)
ORDER BY 1 LIMIT $5;
