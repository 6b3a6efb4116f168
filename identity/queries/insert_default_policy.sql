-- The default policy of a new workspace begins as that of the first one, without what only that one has. $1 id, $2 workspace, $3 the first one, $4 direction
INSERT INTO policy (id, workspace_id, domain, direction, actions)
SELECT $1, $2, domain, direction, actions FROM policy WHERE workspace_id = $3 AND domain = '*' AND group_id IS NULL AND direction = $4;
