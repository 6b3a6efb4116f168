-- Makes a group. $1 id, $2 workspace, $3 name, $4 members, $5 rank
INSERT INTO recipient_group (id, workspace_id, name, members, rank) VALUES ($1, $2, $3, $4, $5)
RETURNING id, workspace_id, name, members, rank, version, created_at, updated_at;
