-- Keeps months from being deleted for as long as the connection lives. $1 class, $2 lock
SELECT pg_advisory_lock_shared($1, $2);
