-- How feeds fare. $1 now
SELECT name, type, last_good_at, last_run_at, due_at, coalesce(claimed_until > $1, false), rows, (extract(epoch FROM $1 - coalesce(last_good_at, created_at)) / 60)::float8, alarm, code, error
FROM intel_feed ORDER BY name;
