-- Stores what the engines said. $1 item, $2 all of it, $3 class, $4 new findings, $5 whether a release was stopped,
-- $6 whether it is worse, which stops what is under way
UPDATE quarantine_item i SET rescan = $2, class = $3, findings = findings || $4::jsonb, stopped_at = CASE
    WHEN $5 OR ($6 AND EXISTS (SELECT FROM release r WHERE r.item_id = i.id AND r.state = 'approved')) THEN now() ELSE stopped_at END WHERE i.id = $1;
