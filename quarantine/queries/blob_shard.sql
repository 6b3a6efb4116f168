-- The blobs of one part of the folder, and whether anything needs them. $1 part, with its slash
SELECT b.name, b.created_at, b.missing_at,
    EXISTS (SELECT FROM quarantine_item i WHERE i.blob_name = b.name AND i.blob_removed_at IS NULL)
    OR EXISTS (SELECT FROM delivery d WHERE d.blob_name = b.name AND (d.state IN ('queued', 'delivering') OR d.state = 'outcome_unknown' AND d.item_id IS NULL))
FROM blob b WHERE b.name > $1 AND b.name < $1 || 'g';
