-- Notes up to where a recipient was told. $1 workspace, $2 address, $3 received at of the newest, $4 now, $5 delivery
INSERT INTO digest_told AS t (workspace_id, address, up_to, told_at, delivery_id) VALUES ($1, lower($2), $3, $4, $5)
ON CONFLICT (workspace_id, address) DO UPDATE SET up_to = greatest(t.up_to, excluded.up_to), told_at = excluded.told_at, delivery_id = excluded.delivery_id;
