-- How the queue is.
SELECT (SELECT count(*) FROM sandbox_hold WHERE decided_at IS NULL), (SELECT min(created_at) FROM sandbox_hold WHERE decided_at IS NULL),
       (SELECT count(*) FROM sandbox_task WHERE state IN ('submitting', 'submitted')),
       (SELECT count(*) FROM sandbox_hold WHERE verdict = 'none' AND decided_at > now() - interval '1 hour');
