-- Stores indicators of one source. One that is there is written again only where
-- it says something new, or was seen last some hours ago. A value whose key is
-- another's is left out. $1 source, $2 keys, $3 kinds, $4 values, $5 classes,
-- $6 confidences, $7 first seen, $8 last seen, $9 expire, $10 notes, $11 references, $12 origins
INSERT INTO indicator AS i (key, source, kind, value, class, confidence, first_seen, last_seen, expires_at, note, reference, origin)
SELECT x.key, $1, x.kind, x.value, x.class, x.confidence, x.first, x.last, x.expires, x.note, x.reference, x.origin
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::text[])
    x (key, kind, value, class, confidence, first, last, expires, note, reference, origin)
ORDER BY x.key
ON CONFLICT (key, source) DO UPDATE SET class = excluded.class, confidence = excluded.confidence, first_seen = least(i.first_seen, excluded.first_seen),
    last_seen = greatest(i.last_seen, excluded.last_seen), expires_at = excluded.expires_at, note = excluded.note, reference = excluded.reference, origin = excluded.origin
WHERE i.kind = excluded.kind AND i.value = excluded.value
  AND (i.class, i.confidence, i.note, i.reference, i.origin) IS DISTINCT FROM (excluded.class, excluded.confidence, excluded.note, excluded.reference, excluded.origin)
   OR i.kind = excluded.kind AND i.value = excluded.value AND (excluded.last_seen > i.last_seen + interval '6 hours' OR abs(extract(epoch FROM excluded.expires_at - i.expires_at)) > 21600)
RETURNING (xmax = 0) AS added;
