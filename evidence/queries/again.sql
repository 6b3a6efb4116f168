-- A try has failed and another may not. $1 export, $2 why, $3 in how many seconds, $4 try
UPDATE evidence_export SET state = 'approved', step = '', error = $2, lease_until = NULL, next_try_at = now() + $3 * interval '1 second' WHERE id = $1 AND state = 'running' AND tries = $4;
