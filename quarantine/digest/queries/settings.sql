-- The workspaces that tell their recipients.
SELECT d.workspace_id, d.enabled, d.hours, d.weekdays, d.time_zone, d.language, d.release, d.request, d.version
FROM digest_setting d JOIN workspace w ON w.id = d.workspace_id WHERE d.enabled AND w.archived_at IS NULL ORDER BY d.workspace_id;
