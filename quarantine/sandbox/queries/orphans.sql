-- Open tasks that no open question waits for: one that CAPE has is followed to its end, so that the budget gets its place back.
SELECT t.id, t.state, t.created_at < now() - interval '24 hours' FROM sandbox_task t WHERE t.state <> 'finished' AND (t.lease_until IS NULL OR t.lease_until < now())
  AND NOT EXISTS (SELECT FROM sandbox_part p JOIN sandbox_hold h ON h.id = p.hold_id WHERE p.task_id = t.id AND h.decided_at IS NULL) ORDER BY t.next_at LIMIT 100;
