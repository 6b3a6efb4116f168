-- One change of who may do what at a time, so that two people do not remove each other.
SELECT pg_advisory_xact_lock(7238191, 8);
