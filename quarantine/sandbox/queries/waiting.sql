-- Questions that are open, the oldest first. $1 limit
SELECT id FROM sandbox_hold WHERE decided_at IS NULL ORDER BY created_at LIMIT $1;
