-- Adds a mail to the delivery queue, due after the first wait.
INSERT INTO delivery (id, workspace_id, kind, mail_id, envelope_from, recipient, blob_key, blob_name, header_edits, trace_header, eight_bit, give_up_at, next_attempt_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now() + CASE $3 WHEN 'relay' THEN interval '30 seconds' ELSE interval '0' END);
