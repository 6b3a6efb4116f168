-- One number after the other in a workspace, until the end of the transaction. $1 workspace
SELECT pg_advisory_xact_lock(hashtext('mailward.incident.number'), hashtext($1::uuid::text));
