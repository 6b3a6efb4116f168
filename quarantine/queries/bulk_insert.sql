-- Notes an act on many items.
INSERT INTO quarantine_bulk (id, owner_id, session_id, token_id, act, reason, query, cut, asked, event_id, total) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
