INSERT INTO health_minute (component, at, node, checks, good, slow, bad, worst, p50, p95)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (component, at, node) DO UPDATE
SET checks = EXCLUDED.checks, good = EXCLUDED.good, slow = EXCLUDED.slow, bad = EXCLUDED.bad,
    worst = EXCLUDED.worst, p50 = EXCLUDED.p50, p95 = EXCLUDED.p95
WHERE EXCLUDED.checks > health_minute.checks
