-- Incidents, the newest first. $1 workspaces (NULL: any), $2 id or NULL, $3 part of number or title or '', $4 states or NULL, $5 severities or NULL,
-- $6 owner or NULL, $7 mail or NULL, $8 $9 place in the list (NULL: its beginning), $10 limit
SELECT i.id, i.workspace_id, i.number, i.title, i.severity, i.state, i.exercise, i.owner_id, coalesce(nullif(o.name, ''), o.email, ''), i.regime, i.trust_service,
       i.detected_at, i.aware_at, i.aware_unconfirmed_at, i.breach_aware_at, i.requested_for, i.contained_at, i.closed_at,
       i.significant, i.significant_reason, i.significant_at, coalesce(nullif(d.name, ''), d.email, ''), i.facts, i.version,
       coalesce(nullif(c.name, ''), c.email, ''), i.created_at, i.updated_at,
       (SELECT count(*) FROM incident_mail m WHERE m.incident_id = i.id)
FROM incident i
LEFT JOIN user_account o ON o.id = i.owner_id
LEFT JOIN user_account d ON d.id = i.significant_by
LEFT JOIN user_account c ON c.id = i.created_by
WHERE ($1::uuid[] IS NULL OR i.workspace_id = ANY ($1))
  AND ($2::uuid IS NULL OR i.id = $2)
  AND ($3 = '' OR position(lower($3) IN lower(i.number || ' ' || i.title)) > 0)
  AND ($4::text[] IS NULL OR i.state = ANY ($4))
  AND ($5::text[] IS NULL OR i.severity = ANY ($5))
  AND ($6::uuid IS NULL OR i.owner_id = $6)
  AND ($7::uuid IS NULL OR i.id IN (SELECT m.incident_id FROM incident_mail m WHERE m.mail_id = $7))
  AND ($8::timestamptz IS NULL OR (i.created_at, i.id) < ($8, $9::uuid))
ORDER BY i.created_at DESC, i.id DESC LIMIT $10;
