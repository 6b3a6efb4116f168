-- Notes what became of an item, and keeps the scan ours; no row where another process has dealt with it. $1 scan, $2 number, $3 state, $4 class, $5 found, $6 seconds
WITH kept AS (UPDATE coverage_scan SET lease_until = now() + make_interval(secs => $6) WHERE id = $1)
UPDATE coverage_scan_item SET state = $3, class = $4, found = $5, at = now() WHERE scan_id = $1 AND number = $2 AND state = 'pending';
