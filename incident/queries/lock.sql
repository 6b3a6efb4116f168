-- An incident, kept as it is until the end of the transaction. $1 id
SELECT workspace_id FROM incident WHERE id = $1 FOR UPDATE;
