-- Adds a version of a report, after the one that was seen ($5, 0: none). $1 id, $2 incident, $3 workspace, $4 stage, $6 state, $7 submitted, $8 channel, $9 reference,
-- $10 reason, $11 content, $12 its hash, $13 account
INSERT INTO incident_stage (id, incident_id, workspace_id, stage, version, supersedes, state, submitted_at, channel, reference, reason, content, content_sha256, created_by)
SELECT $1, $2, $3, $4, $5::integer + 1, (SELECT s.id FROM incident_stage s WHERE s.incident_id = $2 AND s.stage = $4 AND s.version = $5), $6, $7, $8, $9, $10, $11, $12, $13
WHERE $5 = (SELECT coalesce(max(s.version), 0) FROM incident_stage s WHERE s.incident_id = $2 AND s.stage = $4);
