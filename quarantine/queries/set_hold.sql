-- $1 item, $2 reason
UPDATE quarantine_item SET legal_hold_at = now(), legal_hold_reason = $2 WHERE id = $1 AND legal_hold_at IS NULL AND blob_removed_at IS NULL;
