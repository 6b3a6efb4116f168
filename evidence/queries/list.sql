-- Exports, the newest first. $1 workspaces (null: all), $2 part of a text, $3 state, $4 after this id, $5 at most, $6 only this id, $7 of this item
SELECT e.id, 'EV-' || to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY') || '-' || lpad(e.number::text, 6, '0') AS evidence_id, e.workspace_id, c.id, c.reference, c.title, c.purpose,
       e.item_ids, e.language, e.legal_hold, e.reason, e.mode, e.requested_by, e.requested_name, e.request_id, coalesce(e.intent_event_id, r.intent_event_id), e.state, e.step, e.error,
       e.receipt_id, e.uri, e.worm, e.retain_until, e.files, e.created_at, e.finished_at, coalesce(u.email, ''), coalesce(u.name, ''), a.approver_id, a.decided_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('id', i.id, 'subject', i.subject, 'from', i.envelope_from, 'class', i.class, 'sha256', encode(i.sha256, 'hex')) ORDER BY i.id), '[]')
        FROM quarantine_item i WHERE i.id = ANY (e.item_ids))
FROM evidence_export e JOIN evidence_case c ON c.id = e.case_id LEFT JOIN approval_request r ON r.id = e.request_id
LEFT JOIN approval a ON a.subject_type = 'export' AND a.subject_id = e.request_id LEFT JOIN user_account u ON u.id = a.approver_id
WHERE ($1::uuid[] IS NULL OR e.workspace_id = ANY ($1)) AND ($3 = '' OR e.state = $3) AND ($4::uuid IS NULL OR e.id < $4) AND ($6::uuid IS NULL OR e.id = $6)
  AND ($7::uuid IS NULL OR $7 = ANY (e.item_ids))
  AND ($2 = '' OR position(lower($2) IN lower(concat_ws(' ', 'EV-' || to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY') || '-' || lpad(e.number::text, 6, '0'), e.id, c.reference, c.title, e.reason,
       e.requested_name, e.receipt_id, array_to_string(e.item_ids, ' '), (SELECT string_agg(concat_ws(' ', i.subject, i.envelope_from, encode(i.sha256, 'hex')), ' ') FROM quarantine_item i WHERE i.id = ANY (e.item_ids))))) > 0)
ORDER BY e.id DESC LIMIT $5;
