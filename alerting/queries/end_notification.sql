-- $1 id, $2 state, $3 error
UPDATE alert_notification SET state = $2, error = $3, ended_at = CASE WHEN $2 = 'queued' THEN NULL ELSE now() END WHERE id = $1;
