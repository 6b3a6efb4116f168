-- The same hour of the last four weeks.
-- $1 metric, $2 begins of the hours
SELECT at, workspace_id, subject, slot, count, sum, max FROM metric_bucket WHERE metric = $1 AND step = 3600 AND at = ANY ($2);
