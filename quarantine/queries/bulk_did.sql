-- Notes that an item was dealt with, in the transaction that does it, and keeps the act ours. No row where it was dealt
-- with before. $1 act, $2 number, $3 seconds
WITH mine AS (
    UPDATE quarantine_bulk_item i SET at = now(), state = CASE WHEN b.act = 'release' AND EXISTS (
        SELECT FROM quarantine_recipient r WHERE r.item_id = i.item_id AND r.state = 'release_requested') THEN 'waiting' ELSE 'done' END
    FROM quarantine_bulk b WHERE b.id = $1 AND i.bulk_id = $1 AND i.number = $2 AND i.state = 'pending' RETURNING i.bulk_id)
UPDATE quarantine_bulk SET lease_until = now() + make_interval(secs => $3), trouble = '' FROM mine WHERE id = mine.bulk_id;
