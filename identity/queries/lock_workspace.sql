-- One workspace, locked, and whether it still serves a domain. $1 id
SELECT archived_at, EXISTS (SELECT FROM domain WHERE workspace_id = $1) FROM workspace WHERE id = $1 FOR UPDATE;
