-- Drops a blob that nothing needs. It is locked: who began to refer to it before is seen here. $1 name
DELETE FROM blob b WHERE b.name = $1
  AND NOT EXISTS (SELECT FROM quarantine_item i WHERE i.blob_name = b.name AND i.blob_removed_at IS NULL)
  AND NOT EXISTS (SELECT FROM delivery d WHERE d.blob_name = b.name AND (d.state IN ('queued', 'delivering') OR d.state = 'outcome_unknown' AND d.item_id IS NULL));
