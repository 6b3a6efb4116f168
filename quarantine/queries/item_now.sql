-- What of an item a release depends on. $1 item
SELECT class, blob_removed_at, stopped_at FROM quarantine_item WHERE id = $1;
