-- What a scan has still to do. $1 scan
SELECT number, item_id FROM coverage_scan_item WHERE scan_id = $1 AND state = 'pending' ORDER BY number;
