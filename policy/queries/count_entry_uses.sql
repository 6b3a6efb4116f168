-- Counts how often entries were used. $1 entries, $2 counts, $3 time
INSERT INTO policy_entry_use (entry_id, hits, last_hit_at)
SELECT x.id, x.n, $3 FROM unnest($1::uuid[], $2::bigint[]) x(id, n) WHERE EXISTS (SELECT 1 FROM policy_entry e WHERE e.id = x.id)
ON CONFLICT (entry_id) DO UPDATE SET hits = policy_entry_use.hits + excluded.hits, last_hit_at = excluded.last_hit_at;
