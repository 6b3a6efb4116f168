-- Adds somebody to whom an item is released besides. $1 id, $2 workspace, $3 item, $4 address
INSERT INTO quarantine_recipient (id, workspace_id, item_id, address, state, added) VALUES ($1, $2, $3, $4, 'quarantined', true);
