-- Whose open session it is. $1 session
SELECT user_id FROM session WHERE id = $1 AND ended_at IS NULL;
