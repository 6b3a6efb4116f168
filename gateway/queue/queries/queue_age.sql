-- How many deliveries wait, and since when.
SELECT count(*), min(created_at) FROM delivery WHERE state IN ('queued', 'delivering');
