-- Removes one layer. $1 workspace, $2 domain, $3 group or NULL, $4 direction
DELETE FROM policy WHERE workspace_id = $1 AND domain = $2 AND group_id IS NOT DISTINCT FROM $3 AND direction = $4;
