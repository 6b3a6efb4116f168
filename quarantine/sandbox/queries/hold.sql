-- One question. $1 id
SELECT id, item_id, cause, created_at, deadline, verdict FROM sandbox_hold WHERE id = $1;
