-- Takes away what is harmless, whoever said otherwise. $1 keys
DELETE FROM indicator WHERE key = ANY($1);
