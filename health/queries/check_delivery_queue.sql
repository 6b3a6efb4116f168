-- Only live rows: they are few and have an index of their own. A row whose
-- lease runs is being worked on, so it is not overdue.
SELECT count(*)::int,
       min(created_at),
       min(next_attempt_at) FILTER (WHERE lease_until IS NULL OR lease_until < now())
FROM delivery
WHERE state IN ('queued', 'delivering')
