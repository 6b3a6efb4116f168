-- All groups.
SELECT id, workspace_id, name, members, rank, version, created_at, updated_at FROM recipient_group ORDER BY name, id;
