-- Adds a decision. One with an id that is there is refused: ON CONFLICT would find
-- the partition's indexes anew for each row, which is a third of what it costs.
INSERT INTO mail (id, workspace_id, received_at, node, client_ip, helo, tls, envelope_from, recipients, header_from, subject, message_id, size, sha256,
    class, action, score, reasons, findings, engines, parts, auth, header_edits, raw_header, scan_ms, direction, link_domains)
VALUES ($1, $2, $3, $4, $5::text::inet, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27);
