-- How far each stream has come: the next number, since when, and how many events wait.
SELECT c.sink, c.next_seq, c.updated_at, (SELECT coalesce(max(seq), -1) + 1 FROM audit.leaf) - c.next_seq,
       (SELECT e.recorded_at FROM audit.leaf l JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id WHERE l.seq = c.next_seq)
FROM audit.stream_cursor c ORDER BY c.sink;
