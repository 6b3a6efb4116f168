-- Stores what the engines said. $1 item, $2 all of it, $3 class, $4 new findings, $5 whether a release was stopped
UPDATE quarantine_item SET rescan = $2, class = $3, findings = findings || $4::jsonb, stopped_at = CASE WHEN $5 THEN now() ELSE stopped_at END WHERE id = $1;
