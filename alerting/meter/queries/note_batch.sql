-- Notes a batch of a process; no row when it is there already.
-- $1 process, $2 node, $3 number
INSERT INTO metric_source (id, node, batch) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, node = excluded.node, written_at = now() WHERE metric_source.batch < excluded.batch;
