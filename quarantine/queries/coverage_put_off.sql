-- Lets a scan wait. $1 scan, $2 seconds, $3 why
UPDATE coverage_scan SET lease_until = NULL, next_try_at = now() + make_interval(secs => $2), trouble = $3 WHERE id = $1 AND state = 'running';
