-- Waits for whoever is about to refer to a blob. $1 name
SELECT name FROM blob WHERE name = $1 FOR UPDATE;
