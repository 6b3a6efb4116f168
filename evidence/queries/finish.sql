-- $1 export, $2 receipt, $3 where it is, $4 how it is locked, $5 until when, $6 files, $7 try
UPDATE evidence_export SET state = 'done', step = '', error = '', lease_until = NULL, finished_at = now(), receipt_id = $2, uri = $3, worm = $4, retain_until = $5, files = $6
WHERE id = $1 AND state = 'running' AND tries = $7;
