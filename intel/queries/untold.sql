-- Hits that a source has not heard of. $1 source
SELECT h.key, i.value, h.hits FROM indicator_hit h JOIN indicator i USING (key, source) WHERE h.source = $1 AND h.hits > h.told ORDER BY h.key LIMIT 1000;
