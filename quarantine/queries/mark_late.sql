-- Notes that an item was called malicious too late; no row where that is known. $1 item
UPDATE quarantine_item SET malicious_late_at = now() WHERE id = $1 AND malicious_late_at IS NULL RETURNING malicious_late_at;
