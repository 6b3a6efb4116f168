-- Notes an applied migration. $1 name, $2 hash
INSERT INTO migration_file (name, sha256) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING;
