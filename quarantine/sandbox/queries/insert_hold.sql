-- Adds a question about an item. $1 id, $2 workspace, $3 item, $4 cause, $5 policies, $6 deadline
INSERT INTO sandbox_hold (id, workspace_id, item_id, cause, policies, deadline) VALUES ($1, $2, $3, $4, $5, $6);
