-- Notes what is done now and keeps the export for this try; no row where another worker has taken it.
-- $1 export, $2 what is done now; '': the same still, $3 lease in seconds, $4 try
UPDATE evidence_export SET step = CASE WHEN $2 = '' THEN step ELSE $2 END, lease_until = now() + $3 * interval '1 second' WHERE id = $1 AND state = 'running' AND tries = $4;
