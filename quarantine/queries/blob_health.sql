-- How the store of blobs is: the last sweep, how many files are gone, and since when.
SELECT s.ended_at, coalesce(s.refused, 0), coalesce(s.trouble, ''), m.n, m.since
FROM (SELECT count(*) AS n, min(missing_at) AS since FROM blob WHERE missing_at IS NOT NULL) m LEFT JOIN blob_sweep s ON true;
