-- Held mails whose bytes are still there and that an engine has not seen. $1 workspaces, $2 from, $3 to, $4 how many
SELECT id, workspace_id FROM quarantine_item
WHERE workspace_id = ANY ($1) AND received_at >= $2 AND received_at < $3 AND engines @> '[{"answered": false}]' AND blob_removed_at IS NULL
ORDER BY received_at, id LIMIT $4;
