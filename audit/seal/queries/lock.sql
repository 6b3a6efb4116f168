-- Waits until nobody else seals; held until the transaction ends.
SELECT pg_advisory_xact_lock(7238191, 7);
