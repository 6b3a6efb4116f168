-- Puts a mail into an incident, once. $1 id, $2 incident, $3 workspace, $4 mail
INSERT INTO incident_mail (id, incident_id, workspace_id, mail_id) VALUES ($1, $2, $3, $4) ON CONFLICT (incident_id, mail_id) DO NOTHING;
