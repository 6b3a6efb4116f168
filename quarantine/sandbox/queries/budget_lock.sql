-- One process at a time looks at the budget.
SELECT pg_advisory_xact_lock(7238191, 11);
