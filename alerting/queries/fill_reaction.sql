-- Marks a reaction that has touched as much as it may. $1 id
UPDATE alert_reaction SET full_at = now() WHERE id = $1 AND ended_at IS NULL AND full_at IS NULL;
