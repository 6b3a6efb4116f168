-- What was noted, in the order in which it happened. $1 incident
SELECT n.id, n.kind, n.at, n.text, coalesce(nullif(u.name, ''), u.email, ''), n.created_at
FROM incident_note n LEFT JOIN user_account u ON u.id = n.created_by WHERE n.incident_id = $1 ORDER BY n.at, n.id;
