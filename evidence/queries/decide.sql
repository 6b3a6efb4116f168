-- $1 export, $2 approved or denied
UPDATE evidence_export SET state = $2, finished_at = CASE $2 WHEN 'denied' THEN now() END WHERE id = $1 AND state = 'requested';
