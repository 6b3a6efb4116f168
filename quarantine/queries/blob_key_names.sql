-- By which keys blobs are wrapped: from one to the next in the index, not by reading all.
WITH RECURSIVE k AS (
    SELECT min(wrapped_by) AS name FROM blob
    UNION ALL SELECT (SELECT min(b.wrapped_by) FROM blob b WHERE b.wrapped_by > k.name) FROM k WHERE k.name IS NOT NULL)
SELECT name FROM k WHERE name IS NOT NULL;
