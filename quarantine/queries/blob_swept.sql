-- Notes what a sweep found. $1 began, $2 files, $3 removed, $4 missing, $5 refused, $6 trouble
INSERT INTO blob_sweep AS s (began_at, ended_at, files, removed, missing, refused, trouble) VALUES ($1, now(), $2, $3, $4, $5, $6)
ON CONFLICT (one) DO UPDATE SET began_at = excluded.began_at, ended_at = excluded.ended_at, files = excluded.files, removed = excluded.removed,
    missing = excluded.missing, refused = excluded.refused, trouble = excluded.trouble WHERE s.began_at <= excluded.began_at;
