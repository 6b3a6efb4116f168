-- Names of workspaces, by name. $1 which
SELECT id, name FROM workspace WHERE id = ANY ($1) ORDER BY lower(name), id;
