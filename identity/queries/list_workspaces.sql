-- Workspaces by name, with how much is in them. $1 only these (null: all)
SELECT w.id, w.name, w.created_at, w.archived_at, (SELECT count(*) FROM domain d WHERE d.workspace_id = w.id),
       (SELECT count(DISTINCT g.user_id) FROM role_grant g WHERE g.workspace_id = w.id)
FROM workspace w WHERE $1::uuid[] IS NULL OR w.id = ANY ($1) ORDER BY w.archived_at IS NOT NULL, lower(w.name);
