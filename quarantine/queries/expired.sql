-- Items whose time is over. $1 now, $2 limit
SELECT i.id FROM quarantine_item i WHERE i.blob_removed_at IS NULL AND i.legal_hold_at IS NULL AND i.expires_at < $1
  AND NOT EXISTS (SELECT FROM evidence_export e WHERE e.item_ids @> ARRAY[i.id] AND e.state IN ('requested', 'approved', 'running')
      AND e.created_at > now() - interval '30 days')
  AND NOT EXISTS (SELECT FROM delivery d WHERE d.item_id = i.id AND d.state IN ('queued', 'delivering')) LIMIT $2;
