-- What the mails of an incident come to: mails, recipients, those who were reached, the first and the last. $1 incident
SELECT (SELECT count(*) FROM incident_mail l WHERE l.incident_id = $1),
       (SELECT count(DISTINCT lower(r ->> 'address')) FROM incident_mail l JOIN mail m ON m.id = l.mail_id AND m.workspace_id = l.workspace_id, jsonb_array_elements(m.recipients) r WHERE l.incident_id = $1),
       (SELECT count(DISTINCT lower(o.recipient)) FROM incident_mail l JOIN mail_outcome o ON o.mail_id = l.mail_id WHERE l.incident_id = $1 AND o.state = 'relayed'),
       (SELECT min(m.received_at) FROM incident_mail l JOIN mail m ON m.id = l.mail_id AND m.workspace_id = l.workspace_id WHERE l.incident_id = $1),
       (SELECT max(m.received_at) FROM incident_mail l JOIN mail m ON m.id = l.mail_id AND m.workspace_id = l.workspace_id WHERE l.incident_id = $1);
