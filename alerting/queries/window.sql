-- The buckets of a metric in a stretch of time, summed up.
-- $1 metric, $2 step, $3 from, $4 to (not included)
SELECT workspace_id, subject, slot, sum(count)::bigint, sum(sum), max(max)
FROM metric_bucket WHERE metric = $1 AND step = $2 AND at >= $3 AND at < $4 GROUP BY 1, 2, 3;
