-- Keeps a blob from being dropped until the end of the transaction, in which somebody refers to it. $1 name
SELECT name FROM blob WHERE name = $1 FOR SHARE;
