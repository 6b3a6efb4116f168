-- Like blob_share, for the blob of a workspace that holds this mail. $1 workspace, $2 sha256
SELECT name FROM blob WHERE workspace_id = $1 AND sha256 = $2 AND missing_at IS NULL FOR SHARE;
