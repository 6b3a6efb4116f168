-- Removes what is past its time. $1 step, $2 how long it is kept
DELETE FROM metric_bucket WHERE step = $1 AND at < now() - $2::interval;
