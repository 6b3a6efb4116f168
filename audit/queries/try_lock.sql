-- Takes the lock of a loop for as long as the connection lives. $1 class, $2 lock
SELECT pg_try_advisory_lock($1, $2);
