-- The last hours are made again, since a process that could not write its minutes does so later. $1 ranks the states.
INSERT INTO health_hour (component, at, checks, good, slow, bad, worst, p50, p95)
SELECT component, date_trunc('hour', at, 'UTC'), sum(checks), sum(good), sum(slow), sum(bad),
       (array_agg(worst ORDER BY array_position($1::text[], worst) DESC NULLS LAST))[1],
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p50), percentile_cont(0.95) WITHIN GROUP (ORDER BY p95)
FROM health_minute
WHERE at >= date_trunc('hour', $2::timestamptz, 'UTC') - interval '6 hours'
GROUP BY 1, 2
ON CONFLICT (component, at) DO UPDATE
SET checks = EXCLUDED.checks, good = EXCLUDED.good, slow = EXCLUDED.slow, bad = EXCLUDED.bad,
    worst = EXCLUDED.worst, p50 = EXCLUDED.p50, p95 = EXCLUDED.p95
