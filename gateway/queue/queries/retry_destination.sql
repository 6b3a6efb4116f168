-- Makes all that waits for a destination due. $1 destination, $2 workspaces
UPDATE delivery SET next_attempt_at = now(), updated_at = now() WHERE destination = $1 AND workspace_id = ANY ($2) AND state = 'queued';
