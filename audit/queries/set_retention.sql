-- How long events of a class are kept. $1 class, $2 days
UPDATE audit_retention SET keep = make_interval(days => $2) WHERE class = $1;
