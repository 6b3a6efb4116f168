-- The sandbox has the file. $1 task, $2 its tasks, $3 when to look, $4 its version
UPDATE sandbox_task SET state = 'submitted', cape_ids = $2, next_at = $3, cape_version = $4, error = '', lease_until = NULL WHERE id = $1;
