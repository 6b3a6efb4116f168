-- A task ends. $1 task, $2 verdict, $3 score, $4 family, $5 signatures, $6 error, $7 version of the sandbox
UPDATE sandbox_task SET state = 'finished', verdict = $2, score = $3, family = $4, signatures = $5, error = $6, cape_version = CASE WHEN cape_version = '' THEN $7 ELSE cape_version END, finished_at = now(), lease_until = NULL
WHERE id = $1 AND state <> 'finished';
