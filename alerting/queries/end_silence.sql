-- Ends a silence before its time. $1 id
UPDATE alert_silence SET ended_at = now() WHERE id = $1 AND ended_at IS NULL AND ends_at > now();
