-- Notes that a feed is there. $1 name, $2 type
INSERT INTO intel_feed (name, type) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET type = excluded.type, etag = '', modified = '', cursor = '' WHERE intel_feed.type <> excluded.type;
