-- $1 export, $2 what is done now, $3 lease in seconds
UPDATE evidence_export SET step = $2, lease_until = now() + $3 * interval '1 second' WHERE id = $1 AND state = 'running';
