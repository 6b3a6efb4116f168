-- Makes all that waits for a destination due, and counts it by workspace. $1 destination, $2 workspaces
WITH due AS (
    UPDATE delivery SET next_attempt_at = now(), updated_at = now() WHERE destination = $1 AND workspace_id = ANY ($2) AND state = 'queued' RETURNING workspace_id
)
SELECT workspace_id, count(*) FROM due GROUP BY workspace_id ORDER BY workspace_id;
