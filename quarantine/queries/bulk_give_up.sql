-- Marks what of an act is not done any more. $1 act, $2 why
UPDATE quarantine_bulk_item SET state = 'refused', detail = $2, at = now() WHERE bulk_id = $1 AND state = 'pending';
