-- $1 recipient ids, $2 state
UPDATE quarantine_recipient SET state = $2, updated_at = now() WHERE id = ANY ($1);
