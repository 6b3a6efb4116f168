-- Hits that a source has not heard of, with values as it knows them. $1 source
SELECT h.key, coalesce(nullif(i.origin, ''), i.value), h.hits FROM indicator_hit h JOIN indicator i USING (key, source) WHERE h.source = $1 AND h.hits > h.told ORDER BY h.key LIMIT 1000;
