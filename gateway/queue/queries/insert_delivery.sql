-- Adds a mail to the delivery queue. It is due when the session that it comes from is surely over: if the next hop does
-- not take the mail for the others after all, the row is taken back.
INSERT INTO delivery (id, workspace_id, kind, mail_id, envelope_from, recipient, blob_key, blob_name, header_edits, trace_header, eight_bit, give_up_at, next_attempt_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now() + interval '2 minutes');
