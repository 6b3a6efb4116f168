-- $1 export, $2 why
UPDATE evidence_export SET state = 'failed', step = '', error = $2, lease_until = NULL, finished_at = now() WHERE id = $1 AND state IN ('running', 'approved');
