-- Who has something new since they were told. $1 workspace, $2 classes, $3 not older than, $4 limit
SELECT DISTINCT lower(r.address)
FROM quarantine_recipient r JOIN quarantine_item i ON i.id = r.item_id LEFT JOIN digest_told t ON t.workspace_id = i.workspace_id AND t.address = lower(r.address)
WHERE i.workspace_id = $1 AND i.class = ANY ($2) AND i.class <> 'malware' AND i.direction = 'inbound' AND i.blob_removed_at IS NULL AND i.stopped_at IS NULL
  AND r.state = 'quarantined' AND NOT r.added AND i.received_at > coalesce(t.up_to, $3) LIMIT $4;
