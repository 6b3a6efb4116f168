-- Adds a mail to the delivery queue. $1 to $6 id, workspace, kind, mail, sender, recipient; $7 blob; $8 header edits, $9 our
-- lines, $10 SMTPUTF8, $11 8-bit, $12 destination, $13 size, $14 when it came, $15 to $18 RET, ENVID, NOTIFY, ORCPT, $19 whether
-- the sender is told, $20 when of a delay, $21 when we give up, $22 how long the first attempt waits, $23, $24 the reply that put it here
INSERT INTO delivery (id, workspace_id, kind, mail_id, envelope_from, recipient, blob_name, header_edits, trace_header, smtputf8, eight_bit,
    destination, size, received_at, ret, envid, notify, orcpt, tell_sender, warn_at, give_up_at, next_attempt_at, reply_code, reply_text)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, now() + $22::interval, $23, $24);
