-- Whether an item is under a legal hold. $1 item
SELECT legal_hold_at IS NOT NULL FROM quarantine_item WHERE id = $1;
