-- $1 item, $2 state that follows from its recipients
UPDATE quarantine_item SET state = $2 WHERE id = $1 AND state <> $2;
