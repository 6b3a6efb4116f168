-- $1 workspace, $2 name
UPDATE workspace SET name = $2 WHERE id = $1;
