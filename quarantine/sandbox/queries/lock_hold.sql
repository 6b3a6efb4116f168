-- Whether a question is still open, locked. $1 id
SELECT decided_at IS NULL FROM sandbox_hold WHERE id = $1 FOR UPDATE;
