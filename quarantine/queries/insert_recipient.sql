-- Adds a recipient of an item. $1 id, $2 workspace, $3 item, $4 address, $5 state, $6 NOTIFY, $7 ORCPT
INSERT INTO quarantine_recipient (id, workspace_id, item_id, address, state, notify, orcpt) VALUES ($1, $2, $3, $4, $5, $6, $7);
