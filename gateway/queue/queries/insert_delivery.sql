-- Adds a mail to the delivery queue. $1 to $6 id, workspace, kind, mail, sender, recipient; $7, $8 blob; $9 header edits, $10 our
-- lines, $11 SMTPUTF8, $12 8-bit, $13 destination, $14 size, $15 when it came, $16 to $19 RET, ENVID, NOTIFY, ORCPT, $20 whether
-- the sender is told, $21 when of a delay, $22 when we give up, $23 how long the first attempt waits, $24, $25 the reply that put it here
INSERT INTO delivery (id, workspace_id, kind, mail_id, envelope_from, recipient, blob_key, blob_name, header_edits, trace_header, smtputf8, eight_bit,
    destination, size, received_at, ret, envid, notify, orcpt, tell_sender, warn_at, give_up_at, next_attempt_at, reply_code, reply_text)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, now() + $23::interval, $24, $25);
