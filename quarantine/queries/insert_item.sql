-- Adds an item. The ids are the writer's.
INSERT INTO quarantine_item (id, workspace_id, mail_id, class, score, received_at, expires_at, client_ip, helo, envelope_from, header_from, subject, message_id,
    size, sha256, reasons, findings, engines, parts, auth, header_edits, trace_header, smtputf8, eight_bit, blob_name, state, ret, envid, direction, terms, words, links)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::inet, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32);
