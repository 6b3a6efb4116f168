-- What is known under keys. $1 workspace, $2 keys
SELECT key, mails, bad, first_seen FROM sender_history WHERE workspace_id = $1 AND key = ANY($2::bytea[]);
