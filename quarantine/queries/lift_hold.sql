-- $1 item
UPDATE quarantine_item SET legal_hold_at = NULL, legal_hold_reason = '' WHERE id = $1 AND legal_hold_at IS NOT NULL;
