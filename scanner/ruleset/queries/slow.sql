-- Rules that took too long lately, in the versions in use. $1 since
SELECT w.space, w.number, w.rule, w.times, w.last_at FROM yara_slow w
WHERE w.last_at >= $1 AND (w.number = 0 OR EXISTS (SELECT FROM yara_set s WHERE s.id::text = w.space AND s.number = w.number AND s.deleted_at IS NULL))
ORDER BY w.times DESC, w.space, w.rule LIMIT 200;
