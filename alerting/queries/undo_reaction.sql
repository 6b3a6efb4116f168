-- Ends a reaction before its time. $1 id, $2 who, $3 their id or null, $4 reason
UPDATE alert_reaction SET ended_at = now(), end_kind = 'undo', ended_by = $2, ended_by_id = $3, end_reason = $4 WHERE id = $1 AND ended_at IS NULL AND ends_at > now();
