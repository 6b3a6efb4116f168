-- Makes a file wait for the open task about it. $1 hold, $2 sha256
UPDATE sandbox_part SET task_id = (SELECT id FROM sandbox_task t WHERE t.sha256 = $2 AND t.state <> 'finished') WHERE hold_id = $1 AND sha256 = $2;
