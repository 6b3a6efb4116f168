-- Moves the evaluation on; no row when somebody else has done so meanwhile.
-- $1 from, $2 to, $3 node, $4 milliseconds that it took
UPDATE alert_clock SET evaluated = $2, node = $3, took_ms = $4 WHERE evaluated = $1;
