-- Adds a blob, unless one holds this mail already. $1 id, $2 name, $3 workspace, $4 sha256 or null, $5 wrapped key, $6 by what
INSERT INTO blob (id, name, workspace_id, sha256, wrapped_key, wrapped_by) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;
