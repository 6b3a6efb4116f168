-- Adds a batch to the buckets.
-- $1 metrics, $2 steps, $3 begins, $4 workspaces, $5 subjects, $6 slots, $7 counts, $8 sums, $9 maxima
INSERT INTO metric_bucket (metric, step, at, workspace_id, subject, slot, count, sum, max)
SELECT * FROM unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::uuid[], $5::text[], $6::smallint[], $7::bigint[], $8::double precision[], $9::double precision[])
ON CONFLICT (metric, step, at, workspace_id, subject, slot) DO UPDATE
SET count = metric_bucket.count + excluded.count, sum = metric_bucket.sum + excluded.sum, max = greatest(metric_bucket.max, excluded.max);
