-- One page of indicators. $1 keys (null: any), $2 kind, $3 source, $4 class, $5 now, $6 key and $7 source of the cursor, $8 how many
SELECT i.kind, i.value, i.source, i.class, i.confidence, i.first_seen, i.last_seen, i.expires_at, i.note, i.reference, coalesce(h.hits, 0), h.last_hit_at
FROM indicator i LEFT JOIN indicator_hit h USING (key, source)
WHERE ($1::bigint[] IS NULL OR i.key = ANY($1)) AND ($2 = '' OR i.kind = $2) AND ($3 = '' OR i.source = $3) AND ($4 = '' OR i.class = $4) AND i.expires_at > $5
  AND ($6::bigint IS NULL OR (i.key, i.source) > ($6, $7))
ORDER BY i.key, i.source LIMIT $8;
