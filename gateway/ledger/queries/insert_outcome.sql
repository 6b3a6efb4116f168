-- Adds outcomes, a column of all of them in each parameter. $1 ids, $2 mails,
-- $3 recipients, $4 states, $5 next hops, $6 codes, $7 texts, $8 times
INSERT INTO mail_outcome (id, mail_id, recipient, state, next_hop, code, text, at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::timestamptz[]);
