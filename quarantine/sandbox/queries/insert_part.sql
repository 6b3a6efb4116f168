-- Adds a file to a question. $1 hold, $2 sha256, $3 path, $4 name, $5 size, $6 why it is not sent
INSERT INTO sandbox_part (hold_id, sha256, path, name, size, skipped) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;
