-- Asks about a file, unless somebody has. $1 id, $2 sha256
INSERT INTO sandbox_task (id, sha256) VALUES ($1, $2) ON CONFLICT (sha256) WHERE state <> 'finished' DO NOTHING;
