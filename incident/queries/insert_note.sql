-- $1 id, $2 incident, $3 workspace, $4 kind, $5 when it happened, $6 text, $7 account
INSERT INTO incident_note (id, incident_id, workspace_id, kind, at, text, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7);
