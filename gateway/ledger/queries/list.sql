-- One page of mails, newest first. $1 workspaces, $2 search text, $3 the same for LIKE, $4 classes, $5 actions, $6 from, $7 to, $8 cursor, $9 limit, $10 direction
SELECT m.id, m.workspace_id, m.received_at, m.node, host(m.client_ip), m.helo, m.tls, m.envelope_from, m.recipients, m.header_from, m.subject, m.message_id,
       m.size, m.sha256, m.class, m.action, m.score, m.reasons, m.findings, m.engines, m.parts, m.auth, m.raw_header, m.scan_ms, m.direction, m.link_domains
FROM mail m
WHERE m.workspace_id = ANY ($1)
  AND ($2 = '' OR lower(m.subject) LIKE $3 OR lower(m.envelope_from) LIKE $3 OR lower(m.header_from) LIKE $3 OR lower(m.recipients::text) LIKE $3
       OR m.id::text = $2 OR m.message_id = $2 OR encode(m.sha256, 'hex') = lower($2))
  AND ($4::text[] IS NULL OR m.class = ANY ($4))
  AND ($5::text[] IS NULL OR m.action = ANY ($5))
  AND ($6::timestamptz IS NULL OR m.id >= audit.uuid_at($6))
  AND ($7::timestamptz IS NULL OR m.id < audit.uuid_at($7))
  AND ($8::uuid IS NULL OR m.id < $8)
  AND ($10 = '' OR m.direction = $10)
ORDER BY m.id DESC LIMIT $9;
