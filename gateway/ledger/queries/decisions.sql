-- Decisions for trying them again, newest first, without the raw header. $1 workspaces, $2 from, $3 cursor, $4 limit
SELECT m.id, m.workspace_id, m.received_at, m.node, host(m.client_ip), m.helo, m.tls, m.envelope_from, m.recipients, m.header_from, m.subject, m.message_id,
       m.size, m.sha256, m.class, m.action, m.score, m.reasons, m.findings, m.engines, m.parts, m.auth, ''::bytea, m.scan_ms, m.direction, m.link_domains
FROM mail m
WHERE m.workspace_id = ANY ($1) AND m.id >= audit.uuid_at($2) AND ($3::uuid IS NULL OR m.id < $3)
ORDER BY m.id DESC LIMIT $4;
