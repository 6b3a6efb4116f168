-- Switches a file off. $1 id, $2 file, $3 reason, $4 account, $5 name
INSERT INTO yara_file_off (id, space, reason, actor_id, actor) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (space) DO NOTHING;
