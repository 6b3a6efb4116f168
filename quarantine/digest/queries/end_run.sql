-- Ends a run, if it is still its worker's. $1 workspace, $2 time of the schedule that is done; null: none, $3 now, $4 sent, $5 failed, $6 error, $7 when it began
UPDATE digest_run SET slot = coalesce($2, slot), claimed_until = NULL, ended_at = $3, sent = $4, failed = $5, error = $6 WHERE workspace_id = $1 AND began_at = $7;
