-- When any process counted. $1 step, $2 from, $3 to (not included)
SELECT DISTINCT at FROM metric_bucket WHERE metric = 'alive' AND step = $1 AND at >= $2 AND at < $3 ORDER BY at;
