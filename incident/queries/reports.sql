-- All versions of the reports of incidents, the newest version of a report first. $1 incidents
SELECT s.id, s.incident_id, s.stage, s.version, s.supersedes, s.state, s.submitted_at, s.channel, s.reference, s.reason, s.content_sha256,
       coalesce(nullif(u.name, ''), u.email, ''), s.created_at
FROM incident_stage s LEFT JOIN user_account u ON u.id = s.created_by
WHERE s.incident_id = ANY ($1) ORDER BY s.incident_id, s.stage, s.version DESC;
