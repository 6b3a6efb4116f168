-- $1 one component, or all where empty; $2 from, $3 the length of a slot, $4 ranks the states.
SELECT component, date_bin($3::interval, at, $2::timestamptz), sum(checks)::bigint, sum(good)::bigint, sum(slow)::bigint, sum(bad)::bigint,
       (array_agg(worst ORDER BY array_position($4::text[], worst) DESC NULLS LAST))[1],
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p50), percentile_cont(0.95) WITHIN GROUP (ORDER BY p95)
FROM health_minute
WHERE at >= $2 AND ($1 = '' OR component = $1)
GROUP BY 1, 2
ORDER BY 1, 2
