-- Personal values with their salts. $1 event ids
SELECT event_id, path, value, encode(salt, 'hex') FROM guard.reveal($1) ORDER BY event_id, path;
