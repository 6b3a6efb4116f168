-- Adds decisions, a column of all of them in each parameter. A retry with the same
-- id is the same decision.
INSERT INTO mail (id, workspace_id, received_at, node, client_ip, helo, tls, envelope_from, recipients, header_from, subject, message_id, size, sha256,
    class, action, score, reasons, findings, engines, parts, auth, header_edits, raw_header, scan_ms, direction, link_domains)
SELECT r.id, r.workspace_id, r.received_at, r.node, r.client_ip::inet, r.helo, r.tls, r.envelope_from, r.recipients, r.header_from, r.subject, r.message_id, r.size, r.sha256,
    r.class, r.action, r.score, r.reasons, r.findings, r.engines, r.parts, r.auth, r.header_edits, r.raw_header, r.scan_ms, r.direction, string_to_array(r.link_domains, ' ')
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bytea[],
    $15::text[], $16::text[], $17::float8[], $18::jsonb[], $19::jsonb[], $20::jsonb[], $21::jsonb[], $22::jsonb[], $23::jsonb[], $24::bytea[], $25::bigint[], $26::text[], $27::text[])
    AS r (id, workspace_id, received_at, node, client_ip, helo, tls, envelope_from, recipients, header_from, subject, message_id, size, sha256,
    class, action, score, reasons, findings, engines, parts, auth, header_edits, raw_header, scan_ms, direction, link_domains)
ON CONFLICT (id) DO NOTHING;
