-- Adds a set, which is not enabled. $1 id, $2 name, $3 description, $4 class, $5 score
INSERT INTO yara_set (id, name, description, class, score) VALUES ($1, $2, $3, $4, $5);
