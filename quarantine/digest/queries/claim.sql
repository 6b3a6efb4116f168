-- Takes a run of a workspace on; no row where it is done or somebody is at it, and false where the first look only notes how
-- far the schedule is. $1 workspace, $2 time of the schedule, $3 now, $4 end of the claim
INSERT INTO digest_run AS d (workspace_id, slot) VALUES ($1, $2)
ON CONFLICT (workspace_id) DO UPDATE SET claimed_until = $4, began_at = $3 WHERE d.slot < $2 AND (d.claimed_until IS NULL OR d.claimed_until < $3)
RETURNING claimed_until IS NOT NULL;
