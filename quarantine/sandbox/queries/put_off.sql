-- Nothing came of it now. $1 task, $2 its state, $3 when to try again, $4 why
UPDATE sandbox_task SET state = $2, next_at = $3, error = CASE WHEN $4 = '' THEN error ELSE $4 END, lease_until = NULL WHERE id = $1 AND state <> 'finished';
