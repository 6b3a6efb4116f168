-- The end of an export. $1 id, $2 state, $3 events written, $4 what it came to
UPDATE audit_export SET state = $2, written = $3, manifest = $4, done = CASE $2 WHEN 'complete' THEN 1 ELSE done END, updated_at = now() WHERE id = $1;
