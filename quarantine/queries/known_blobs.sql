-- Which of these blobs are still needed. $1 names
SELECT blob_name FROM quarantine_item WHERE blob_name = ANY ($1) AND blob_removed_at IS NULL
UNION SELECT blob_name FROM delivery WHERE blob_name = ANY ($1) AND state IN ('queued', 'delivering', 'outcome_unknown');
