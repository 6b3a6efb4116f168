-- Notes that an item has no bytes any more. $1 item
UPDATE quarantine_item SET blob_removed_at = now() WHERE id = $1 AND blob_removed_at IS NULL;
