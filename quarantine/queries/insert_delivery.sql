-- Adds a delivery, due at once.
INSERT INTO delivery (id, workspace_id, kind, mail_id, item_id, release_id, recipient_id, envelope_from, recipient, blob_key, blob_name, header_edits, trace_header, smtputf8, eight_bit, give_up_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);
