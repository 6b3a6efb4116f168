-- Notes that somebody insists on a release that was stopped. $1 item
UPDATE quarantine_item SET stopped_at = NULL WHERE id = $1;
