-- Opens the guarded schemas for this transaction, on record. $1 version, $2 reason
SELECT audit.maintenance($1, $2);
