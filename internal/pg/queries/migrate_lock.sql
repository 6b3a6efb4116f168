-- One process at a time migrates: the others wait here, until the connection ends.
SELECT pg_advisory_lock(7238191, 6);
