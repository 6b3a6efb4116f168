-- $1 id, $2 account, $3 provider, $4 issuer, $5 subject there, $6 now
INSERT INTO external_identity (id, user_id, provider, issuer, subject, last_used_at) VALUES ($1, $2, $3, $4, $5, $6);
