-- Items by their ids. $1 ids
SELECT i.id, i.mail_id, i.workspace_id, i.class, i.state, i.score, i.received_at, i.expires_at, host(i.client_ip), i.helo, i.envelope_from,
       i.header_from, i.subject, i.message_id, i.size, i.sha256, i.reasons, i.findings, i.engines, i.parts, i.auth, i.header_edits, i.trace_header,
       i.smtputf8, i.eight_bit, b.wrapped_key, i.blob_name, i.blob_removed_at, i.direction, i.malicious_late_at, i.rescan, i.stopped_at, i.legal_hold_at, i.legal_hold_reason
FROM quarantine_item i LEFT JOIN blob b ON b.name = i.blob_name AND i.blob_removed_at IS NULL
WHERE i.id = ANY ($1);
