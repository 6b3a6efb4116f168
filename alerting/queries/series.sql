-- The buckets of a metric one by one. A workspace of zero: of all.
-- $1 metric, $2 step, $3 from, $4 to (not included), $5 workspace, $6 those of domains or components, else the sums of all
SELECT at, workspace_id, subject, slot, count, sum, max FROM metric_bucket
WHERE metric = $1 AND step = $2 AND at >= $3 AND at < $4
  AND ($5::uuid = '00000000-0000-0000-0000-000000000000' OR workspace_id = $5) AND (subject <> '') = $6
ORDER BY at;
