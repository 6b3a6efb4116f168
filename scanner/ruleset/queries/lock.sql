-- One change of rule sets at a time: names of rules are unique over all of them.
SELECT pg_advisory_xact_lock(7238191, 12);
