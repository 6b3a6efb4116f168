-- The numbers of the first and the last event of a time. $1 from, $2 to, $3 before that number
SELECT min(l.seq), max(l.seq) + 1 FROM audit.leaf l
WHERE l.seq < $3 AND ($1::timestamptz IS NULL OR l.event_id >= audit.uuid_at($1)) AND ($2::timestamptz IS NULL OR l.event_id < audit.uuid_at($2));
