-- Gives a file the task with its verdict. $1 hold, $2 sha256, $3 task
UPDATE sandbox_part SET task_id = $3 WHERE hold_id = $1 AND sha256 = $2;
