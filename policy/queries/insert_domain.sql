-- Adds a domain to a workspace that is open; no row where it is archived. $1 id, $2 workspace, $3 name, $4 next hop
INSERT INTO domain (id, workspace_id, name, next_hop)
SELECT $1, w.id, $3, $4 FROM workspace w WHERE w.id = $2 AND w.archived_at IS NULL RETURNING created_at;
