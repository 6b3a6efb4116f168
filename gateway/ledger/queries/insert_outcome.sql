-- Adds an outcome. $1 id, $2 mail, $3 recipient, $4 state, $5 next hop, $6 code, $7 text, $8 time
INSERT INTO mail_outcome (id, mail_id, recipient, state, next_hop, code, text, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING;
