-- $1 id, $2 workspace, $3 item, $4 class, $5 findings, $6 reason, $7 account, $8 its address, $9 exception
INSERT INTO false_positive (id, workspace_id, item_id, class, findings, reason, reporter_id, reporter, entry_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
