-- $1 id, $2 set, $3 version, $4 mails, $5 workspaces, $6 account or NULL, $7 who
INSERT INTO yara_backtest (id, set_id, number, mails, workspaces, requested_by, requester) VALUES ($1, $2, $3, $4, $5, $6, $7);
