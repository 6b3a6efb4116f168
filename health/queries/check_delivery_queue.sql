-- Only live rows: they have indexes of their own. Overdue is what a destination that can be reached waits for while no
-- worker holds anything: with a long queue, things are due that a busy worker has not come to yet. $1 counts up to this
WITH RECURSIVE dest(name, due) AS (
    (SELECT destination, next_attempt_at FROM delivery WHERE state = 'queued' ORDER BY destination, next_attempt_at LIMIT 1)
    UNION ALL
    SELECT x.destination, x.next_attempt_at FROM dest CROSS JOIN LATERAL (
        SELECT destination, next_attempt_at FROM delivery
        WHERE state = 'queued' AND destination > dest.name ORDER BY destination, next_attempt_at LIMIT 1) x
), busy AS (SELECT EXISTS (SELECT FROM delivery WHERE state = 'delivering' AND lease_until > now()) AS yes)
SELECT (SELECT count(*) FROM (SELECT FROM delivery WHERE state IN ('queued', 'delivering') LIMIT $1) x)::int,
       (SELECT created_at FROM delivery WHERE state IN ('queued', 'delivering') ORDER BY created_at, id LIMIT 1),
       (SELECT least((SELECT min(d.due) FROM dest d WHERE NOT EXISTS (
                          SELECT FROM delivery_destination s WHERE s.name = d.name AND s.down_until > now() - interval '1 minute')),
                     (SELECT min(lease_until) FROM delivery WHERE state = 'delivering' AND lease_until < now()))
        FROM busy WHERE NOT busy.yes)
