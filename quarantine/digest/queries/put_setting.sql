-- $1 id, $2 workspace, $3 enabled, $4 hours, $5 weekdays, $6 time zone, $7 language, $8 and $9 classes, $10 version that was looked at; 1 where none was there
INSERT INTO digest_setting AS d (id, workspace_id, enabled, hours, weekdays, time_zone, language, release, request) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (workspace_id) DO UPDATE SET enabled = excluded.enabled, hours = excluded.hours, weekdays = excluded.weekdays, time_zone = excluded.time_zone,
    language = excluded.language, release = excluded.release, request = excluded.request, version = d.version + 1, updated_at = now() WHERE d.version = $10;
