-- Notes that stream $1 has written all before number $2.
SELECT audit.streamed($1, $2);
