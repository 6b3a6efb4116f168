-- Takes a list, whole. $1 feed, $2 title, $3 type, $4 version, $5 entries
INSERT INTO warninglist (feed, title, type, version, entries) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (feed) DO UPDATE SET title = excluded.title, type = excluded.type, version = excluded.version, entries = excluded.entries, updated_at = now()
WHERE (warninglist.title, warninglist.type, warninglist.version, warninglist.entries) IS DISTINCT FROM (excluded.title, excluded.type, excluded.version, excluded.entries);
