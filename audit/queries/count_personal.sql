-- How many values of $1 the record holds, and in how many events.
SELECT count(*), count(DISTINCT p.event_id) FROM audit.pii p WHERE p.blind = ANY (audit.tokens($1));
