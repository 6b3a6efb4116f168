-- Two runs do not tell the same recipient at the same time. $1 workspace and address
SELECT pg_advisory_xact_lock(7238192, hashtext($1));
