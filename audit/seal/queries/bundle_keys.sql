-- All keys.
SELECT id, algorithm, public, added_at FROM audit.seal_key ORDER BY added_at, id;
