-- All sets.
SELECT id, workspace_id, name, description, direction, enabled, class, score, rules, version, updated_at FROM dlp_set ORDER BY lower(name), id;
