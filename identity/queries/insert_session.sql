-- $1 id, $2 hash of the cookie, $3 account, $4 now, $5 end, $6 address, $7 kind of program,
-- $8 method, $9 provider, $10 protocol, $11 issuer, $12 subject there, $13 session there, $14 encrypted ID token, $15 two factors
INSERT INTO session (id, token_hash, user_id, created_at, last_seen_at, authenticated_at, expires_at, source_ip, user_agent_class,
                     auth_method, provider, protocol, issuer, subject, idp_session, id_token, mfa)
VALUES ($1, $2, $3, $4, $4, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);
