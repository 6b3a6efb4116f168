-- An item that the same client has caused before and nobody has touched since.
-- $1 workspace, $2 sha256, $3 envelope sender, $4 not older than, $5 recipients (lower case, sorted)
SELECT i.id FROM quarantine_item i
WHERE i.workspace_id = $1 AND i.received_at > $4 AND i.sha256 = $2 AND i.envelope_from = $3 AND i.blob_removed_at IS NULL
  AND (SELECT array_agg(lower(r.address) ORDER BY lower(r.address) COLLATE "C") FROM quarantine_recipient r WHERE r.item_id = i.id) = $5::text[]
  AND NOT EXISTS (SELECT FROM quarantine_recipient r WHERE r.item_id = i.id AND r.state NOT IN ('held', 'quarantined'))
ORDER BY i.received_at DESC LIMIT 1;
