-- Ends a reaction whose time is over. $1 id
UPDATE alert_reaction SET ended_at = now(), end_kind = 'time', ended_by = 'System' WHERE id = $1 AND ended_at IS NULL AND ends_at <= now();
