-- Takes a task that there is something to do about, for a while. $1 task, $2 until when
UPDATE sandbox_task SET lease_until = $2 WHERE id = $1 AND state <> 'finished' AND next_at <= now() AND (lease_until IS NULL OR lease_until < now())
RETURNING id, encode(sha256, 'hex'), state, cape_ids, attempts;
