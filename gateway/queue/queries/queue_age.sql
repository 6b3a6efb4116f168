-- How many deliveries wait, counted up to a cap, and since when. $1 cap
SELECT (SELECT count(*) FROM (SELECT FROM delivery WHERE state IN ('queued', 'delivering') LIMIT $1) x)::int,
       (SELECT created_at FROM delivery WHERE state IN ('queued', 'delivering') ORDER BY created_at, id LIMIT 1);
