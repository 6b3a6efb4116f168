-- Lets months be deleted again. $1 class, $2 lock
SELECT pg_advisory_unlock_shared($1, $2);
