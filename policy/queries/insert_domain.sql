-- Adds a domain. $1 id, $2 workspace, $3 name, $4 next hop
INSERT INTO domain (id, workspace_id, name, next_hop) VALUES ($1, $2, $3, $4) RETURNING created_at;
