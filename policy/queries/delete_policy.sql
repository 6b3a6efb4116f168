-- Removes the policy of one domain. $1 workspace, $2 domain, $3 direction
DELETE FROM policy WHERE workspace_id = $1 AND domain = $2 AND direction = $3;
