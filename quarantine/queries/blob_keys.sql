-- By which keys blobs are wrapped, and how many by each.
SELECT wrapped_by, count(*) FROM blob GROUP BY wrapped_by ORDER BY wrapped_by;
