-- Deletes the events of a month. $1 partition, $2 reason, $3 approval
SELECT audit.purge_month($1, $2, $3);
