-- $1 id, $2 workspace, $3 item, $4 recipient, $5 end
INSERT INTO digest_link (id, workspace_id, item_id, recipient_id, expires_at) VALUES ($1, $2, $3, $4, $5);
