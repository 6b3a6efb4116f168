-- $1 id, $2 workspace or null, then the fields
INSERT INTO alert_channel (id, workspace_id, name, kind, target, secret, language, everything, severity, per_minute, enabled) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
