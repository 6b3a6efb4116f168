-- Items per class, counted up to $16. $1 workspaces, $2 to $15 as in ordered.sql
SELECT class, count(*) FROM (
SELECT i.class FROM quarantine_item i
WHERE i.workspace_id = ANY ($1)
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
LIMIT $16) x GROUP BY class;
