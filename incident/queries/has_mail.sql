-- Whether a mail is there in a workspace, and how many an incident has. $1 mail, $2 workspace, $3 incident
SELECT EXISTS (SELECT FROM mail m WHERE m.id = $1 AND m.workspace_id = $2), (SELECT count(*) FROM incident_mail l WHERE l.incident_id = $3);
