-- What is known under keys. $1 keys, $2 now
SELECT i.kind, i.value, i.source, i.class, i.confidence, i.first_seen, i.last_seen, i.expires_at, i.note, i.reference, 0::bigint, NULL::timestamptz
FROM indicator i WHERE i.key = ANY($1::bigint[]) AND i.expires_at > $2;
