-- One first start at a time.
SELECT pg_advisory_xact_lock(7238191, 15);
