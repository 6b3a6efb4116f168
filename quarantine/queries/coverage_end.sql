-- Ends a scan. $1 scan, $2 state, $3 why
UPDATE coverage_scan SET state = $2, trouble = $3, lease_until = NULL, finished_at = now() WHERE id = $1 AND state = 'running';
