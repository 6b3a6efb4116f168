-- Those of some items that are in some workspaces, each once. $1 items, $2 workspaces
SELECT i.id FROM quarantine_item i WHERE i.id = ANY ($1) AND i.workspace_id = ANY ($2) ORDER BY array_position($1, i.id);
