-- $1 id, $2 hash of the cookie, $3 account, $4 now, $5 end, $6 address, $7 kind of program
INSERT INTO session (id, token_hash, user_id, created_at, last_seen_at, authenticated_at, expires_at, source_ip, user_agent_class)
VALUES ($1, $2, $3, $4, $4, $4, $5, $6, $7);
