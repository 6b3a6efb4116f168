-- How the digests of each workspace are that wants them.
SELECT d.hours, d.weekdays, d.time_zone, r.slot, r.ended_at, coalesce(r.failed, 0), coalesce(r.error, '')
FROM digest_setting d JOIN workspace w ON w.id = d.workspace_id LEFT JOIN digest_run r ON r.workspace_id = d.workspace_id WHERE d.enabled AND w.archived_at IS NULL;
