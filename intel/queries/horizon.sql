-- The first transaction that is not over: what it and later ones add is read next time
SELECT pg_snapshot_xmin(pg_current_snapshot())::text;
