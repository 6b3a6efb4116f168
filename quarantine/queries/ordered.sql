-- A page of item ids, where the columns of an index are all that is asked for. $1 workspace, $2 terms (null), $3 to $6
-- part of the words, sender, recipient, subject ('' selects all), $7 classes, $8 states (null), $9 direction, $10 and
-- $11 score, $12 from, $13 to, $14 newer than this id, $15 id of the item or its mail, $16 limit, $17 order (newest,
-- oldest, score), $18 to $20 place of the page before: received, id, score
SELECT i.id, i.received_at, i.score FROM quarantine_item i
WHERE i.workspace_id = $1
  AND ($2::text[] IS NULL OR i.terms @> $2)
  AND ($3 = '' OR i.words LIKE $3)
  AND ($4 = '' OR (i.words LIKE $4 AND (lower(i.header_from) LIKE $4 OR lower(i.envelope_from) LIKE $4)))
  AND ($5 = '' OR (i.words LIKE $5 AND (SELECT bool_or(lower(r.address) LIKE $5) FROM quarantine_recipient r WHERE r.item_id = i.id)))
  AND ($6 = '' OR (i.words LIKE $6 AND lower(i.subject) LIKE $6))
  AND ($7::text[] IS NULL OR CASE WHEN cardinality($7) = 1 THEN i.class = ($7)[1] ELSE i.class = ANY ($7) END)
  AND ($8::text[] IS NULL OR CASE WHEN cardinality($8) = 1 THEN i.state = ($8)[1] ELSE i.state = ANY ($8) END)
  AND ($9 = '' OR i.direction = $9)
  AND ($10::real IS NULL OR i.score >= $10)
  AND ($11::real IS NULL OR i.score <= $11)
  AND ($12::timestamptz IS NULL OR i.received_at >= $12)
  AND ($13::timestamptz IS NULL OR i.received_at < $13)
  AND ($14::uuid IS NULL OR i.id > $14)
  AND ($15::uuid IS NULL OR i.id = $15 OR i.mail_id = $15)
  AND ($17 <> 'newest' OR $18::timestamptz IS NULL OR (i.received_at, i.id) < ($18, $19::uuid))
  AND ($17 <> 'oldest' OR $18::timestamptz IS NULL OR (i.received_at, i.id) > ($18, $19::uuid))
  AND ($17 <> 'score' OR $18::timestamptz IS NULL OR (i.score, i.received_at, i.id) < ($20::real, $18, $19::uuid))
ORDER BY CASE WHEN $17 = 'score' THEN i.score END DESC,
         CASE WHEN $17 = 'oldest' THEN i.received_at END, CASE WHEN $17 = 'oldest' THEN i.id END,
         CASE WHEN $17 <> 'oldest' THEN i.received_at END DESC, CASE WHEN $17 <> 'oldest' THEN i.id END DESC
LIMIT $16;
