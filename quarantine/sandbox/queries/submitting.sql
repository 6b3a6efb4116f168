-- A submission begins: from here on the sandbox may have the file. $1 task
UPDATE sandbox_task SET state = 'submitting', submitted_at = now(), attempts = attempts + 1 WHERE id = $1;
