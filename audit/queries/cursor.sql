-- The next number that a stream has to write, and whether there is an event of
-- that number: the look at the events themselves is planned over all of their
-- partitions, which costs more than it finds nearly each time. $1 its name
SELECT c.next, EXISTS (SELECT FROM audit.leaf l WHERE l.seq >= c.next)
FROM (SELECT coalesce((SELECT s.next_seq FROM audit.stream_cursor s WHERE s.sink = $1), 0) AS next) c;
