-- How many tasks are in flight, and how many were submitted lately. $1 the task that asks, $2 since
SELECT (SELECT count(*) FROM sandbox_task WHERE id <> $1 AND state IN ('submitting', 'submitted')), (SELECT count(*) FROM sandbox_task WHERE submitted_at > $2);
