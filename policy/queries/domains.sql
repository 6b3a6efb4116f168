-- All domains of the database.
SELECT id, workspace_id, name, next_hop, enabled, version, created_at FROM domain ORDER BY name;
