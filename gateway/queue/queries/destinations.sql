-- The destinations for which something waits, in the order of their names, each with its earliest due time: one look into
-- the index for each, however many mails wait there. $1 behind this name, $2 how many at most
WITH RECURSIVE dest(name, due, n) AS (
    (SELECT destination, next_attempt_at, 1 FROM delivery
     WHERE state = 'queued' AND destination > $1 ORDER BY destination, next_attempt_at LIMIT 1)
    UNION ALL
    SELECT x.destination, x.next_attempt_at, dest.n + 1 FROM dest CROSS JOIN LATERAL (
        SELECT destination, next_attempt_at FROM delivery
        WHERE state = 'queued' AND destination > dest.name ORDER BY destination, next_attempt_at LIMIT 1) x
    WHERE dest.n < $2)
SELECT dest.name, dest.due <= now() AND coalesce(s.down_until <= now(), true), s.name IS NOT NULL
FROM dest LEFT JOIN delivery_destination s ON s.name = dest.name ORDER BY dest.name;
