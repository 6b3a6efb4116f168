-- Open requests of others. $1 workspaces, $2 also what has none, $3 who looks
SELECT (SELECT count(*) FROM release WHERE state = 'requested' AND workspace_id = ANY ($1) AND requested_by IS DISTINCT FROM $3)
     + (SELECT count(*) FROM approval_request WHERE state = 'requested' AND (workspace_id = ANY ($1) OR $2 AND workspace_id IS NULL) AND requested_by <> $3);
