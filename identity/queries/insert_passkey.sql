-- $1 id, $2 account, $3 credential, $4 record, $5 name, $6 now
INSERT INTO passkey (id, user_id, credential_id, record, name, created_at) VALUES ($1, $2, $3, $4, $5, $6);
