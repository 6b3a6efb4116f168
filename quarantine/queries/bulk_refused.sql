-- Notes that an item was refused or failed, and keeps the act ours. $1 act, $2 number, $3 state, $4 why, $5 seconds
WITH mine AS (
    UPDATE quarantine_bulk_item SET state = $3, detail = $4, at = now() WHERE bulk_id = $1 AND number = $2 AND state = 'pending' RETURNING bulk_id)
UPDATE quarantine_bulk SET lease_until = now() + make_interval(secs => $5), trouble = '' FROM mine WHERE id = mine.bulk_id;
