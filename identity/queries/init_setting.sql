-- A setting that nobody has chosen yet. $1 key, $2 its text
INSERT INTO setting (key, value) VALUES ($1, to_jsonb($2::text)) ON CONFLICT (key) DO NOTHING;
