-- The personal values of some events, with the salts of their commitments. $1 event ids
SELECT event_id, path, value, salt FROM guard.reveal($1);
