-- What waits for a second person, or has waited. $1 workspaces, $2 also what has none, $3 kind, $4 requested, decided or '', $5 part of a text,
-- $6 after this id, $7 at most, $8 only this id
WITH asked AS (
    SELECT r.id, r.workspace_id, 'release' AS kind, CASE r.state WHEN 'requested' THEN 'requested' WHEN 'denied' THEN 'denied' WHEN 'expired' THEN 'expired' ELSE 'approved' END AS state,
           r.item_id, r.requested_by, (SELECT q.address FROM quarantine_recipient q WHERE q.id = r.asked_by) AS recipient, r.reason, r.created_at,
           jsonb_build_object('subject', i.subject, 'from', i.header_from, 'class', i.class, 'mail_id', i.mail_id, 'expires_at', i.expires_at, 'reason_code', r.reason_code, 'request_ends_at', r.expires_at, 'insisted', r.insisted, 'again', r.again, 'recipients',
               (SELECT coalesce(jsonb_agg(q.address ORDER BY q.address), '[]') FROM quarantine_recipient q WHERE q.id = ANY (r.recipient_ids))) AS detail
    FROM release r JOIN quarantine_item i ON i.id = r.item_id WHERE r.mode = 'required' AND ($8::uuid IS NULL OR r.id = $8)
    UNION ALL
    SELECT a.id, a.workspace_id, a.kind, a.state, NULL, a.requested_by, NULL, a.reason, a.created_at,
           a.detail || jsonb_build_object('email', u.email, 'name', u.name)
    FROM approval_request a LEFT JOIN user_account u ON u.id::text = a.detail ->> 'user_id' WHERE $8::uuid IS NULL OR a.id = $8
)
SELECT q.id, q.workspace_id, coalesce(w.name, ''), q.kind, q.state, q.item_id, q.detail, coalesce(q.requested_by, '00000000-0000-0000-0000-000000000000'), coalesce(u.email, q.recipient, ''), q.reason, q.created_at,
       d.approver_id, coalesce(b.email, ''), coalesce(d.comment, ''), d.decided_at
FROM asked q LEFT JOIN user_account u ON u.id = q.requested_by
LEFT JOIN workspace w ON w.id = q.workspace_id
LEFT JOIN approval d ON d.subject_id = q.id AND d.subject_type = q.kind
LEFT JOIN user_account b ON b.id = d.approver_id
WHERE (q.workspace_id = ANY ($1) OR $2 AND q.workspace_id IS NULL)
  AND ($3 = '' OR q.kind = $3) AND ($4 = '' OR (q.state = 'requested') = ($4 = 'requested'))
  AND ($5 = '' OR position(lower($5) IN lower(concat_ws(' ', q.id, q.reason, u.email, q.detail))) > 0)
  AND ($6::uuid IS NULL OR q.id < $6)
ORDER BY q.id DESC LIMIT $7;
