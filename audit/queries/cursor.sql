-- The next number that a stream has to write. $1 its name
SELECT coalesce((SELECT next_seq FROM audit.stream_cursor WHERE sink = $1), 0);
