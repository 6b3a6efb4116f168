-- The migrations that were applied.
SELECT name, sha256 FROM migration_file ORDER BY name;
