-- What is held for a recipient, the newest first. $1 workspace, $2 address, $3 classes, $4 not older than, $5 also what was told of, $6 limit
SELECT i.id, r.id, i.class, i.header_from, i.subject, i.received_at
FROM quarantine_recipient r JOIN quarantine_item i ON i.id = r.item_id LEFT JOIN digest_told t ON t.workspace_id = i.workspace_id AND t.address = lower(r.address)
WHERE i.workspace_id = $1 AND lower(r.address) = lower($2) AND i.class = ANY ($3) AND i.class <> 'malware' AND i.direction = 'inbound' AND i.blob_removed_at IS NULL AND i.stopped_at IS NULL
  AND r.state = 'quarantined' AND NOT r.added AND i.received_at > CASE WHEN $5 THEN $4 ELSE coalesce(t.up_to, $4) END
ORDER BY i.received_at DESC LIMIT $6;
