-- $1 release, $2 its new state
UPDATE release SET state = $2, decided_at = now() WHERE id = $1;
