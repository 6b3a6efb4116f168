-- The migrations that were applied, each with the hash that it had then.
CREATE TABLE IF NOT EXISTS migration_file (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
