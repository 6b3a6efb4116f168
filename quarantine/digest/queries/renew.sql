-- A run goes on. $1 workspace, $2 when it began, $3 end of the claim
UPDATE digest_run SET claimed_until = $3 WHERE workspace_id = $1 AND began_at = $2;
