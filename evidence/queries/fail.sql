-- One whose decision is forged was never claimed. $1 export, $2 why, $3 try; 0: none
UPDATE evidence_export SET state = 'failed', step = '', error = $2, lease_until = NULL, finished_at = now()
WHERE id = $1 AND (state = 'running' AND tries = $3 OR $3 = 0 AND (state = 'approved' OR state = 'running' AND lease_until < now()));
