-- Counts hits. $1 keys, $2 sources, $3 how many, $4 the last
INSERT INTO indicator_hit (key, source, hits, last_hit_at)
SELECT x.key, x.source, x.hits, x.last FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::timestamptz[]) x (key, source, hits, last) ORDER BY x.key, x.source
ON CONFLICT (key, source) DO UPDATE SET hits = indicator_hit.hits + excluded.hits, last_hit_at = greatest(indicator_hit.last_hit_at, excluded.last_hit_at);
