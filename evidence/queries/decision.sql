-- What the audit has of the decision on an export, in the program's own words: the event of who asked, and that of who agreed. $1 export
SELECT e.mode, e.detail, e.requested_by, coalesce(e.request_id, e.id), i.bytes, a.bytes, a.approver_id, e.item_ids
FROM evidence_export e LEFT JOIN approval_request r ON r.id = e.request_id AND r.state = 'approved' AND r.detail = e.detail AND r.kind = 'export'
LEFT JOIN audit.event i ON i.id = coalesce(e.intent_event_id, r.intent_event_id) AND i.db_role = 'mailward_app'
LEFT JOIN LATERAL (SELECT v.bytes, p.approver_id FROM approval p JOIN audit.event v ON v.id = p.event_id AND v.db_role = 'mailward_app'
    WHERE p.subject_type = 'export' AND p.subject_id = e.request_id AND p.decision = 'approved' LIMIT 1) a ON true
WHERE e.id = $1;
