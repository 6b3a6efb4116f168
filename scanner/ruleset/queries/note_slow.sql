-- Counts a rule that took too long. $1 file or id of the set, $2 version or 0, $3 rule
INSERT INTO yara_slow (space, number, rule) VALUES ($1, $2, $3)
ON CONFLICT (space, number, rule) DO UPDATE SET times = yara_slow.times + 1, last_at = now();
