-- Workspaces by name. $1 only these; null: all
SELECT w.id, w.name FROM workspace w WHERE $1::uuid[] IS NULL OR w.id = ANY ($1) ORDER BY w.name, w.id;
