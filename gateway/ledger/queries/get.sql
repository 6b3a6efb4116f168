-- One mail. $1 id
SELECT m.id, m.workspace_id, m.received_at, m.node, host(m.client_ip), m.helo, m.tls, m.envelope_from, m.recipients, m.header_from, m.subject, m.message_id,
       m.size, m.sha256, m.class, m.action, m.score, m.reasons, m.findings, m.engines, m.parts, m.auth, m.raw_header, m.scan_ms, m.direction, m.link_domains
FROM mail m WHERE m.id = $1;
