-- $1 id, $2 name
INSERT INTO workspace (id, name) VALUES ($1, $2);
