-- The mails of an incident, the newest first, and how many copies of each reached somebody; of mails that the ledger no longer has only the id. $1 incident, $2 limit
SELECT l.mail_id, m.received_at, coalesce(m.header_from, ''), coalesce(m.subject, ''), coalesce(m.class, ''), coalesce(m.action, ''), coalesce(jsonb_array_length(m.recipients), 0),
       (SELECT count(DISTINCT o.recipient) FROM mail_outcome o WHERE o.mail_id = l.mail_id AND o.state = 'relayed'),
       (SELECT q.id FROM quarantine_item q WHERE q.mail_id = l.mail_id AND q.workspace_id = l.workspace_id LIMIT 1)
FROM incident_mail l LEFT JOIN mail m ON m.id = l.mail_id AND m.workspace_id = l.workspace_id
WHERE l.incident_id = $1 ORDER BY l.mail_id DESC LIMIT $2;
