-- A verdict that is still good for a file. $1 sha256, $2 not older than, $3 version of the sandbox
SELECT id FROM sandbox_task WHERE sha256 = $1 AND state = 'finished' AND verdict <> 'none' AND finished_at > $2 AND cape_version = $3 ORDER BY finished_at DESC LIMIT 1;
