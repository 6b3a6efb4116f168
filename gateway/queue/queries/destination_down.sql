-- A destination that could not be reached rests, longer each time in a row. $1 name, $2 waits, $3 error
INSERT INTO delivery_destination AS d (name, failures, down_until, last_error) VALUES ($1, 1, now() + ($2::interval[])[1], $3)
ON CONFLICT (name) DO UPDATE SET failures = d.failures + 1, last_error = excluded.last_error,
    down_until = now() + ($2::interval[])[least(d.failures + 1, cardinality($2::interval[]))]
WHERE d.down_until <= now();
