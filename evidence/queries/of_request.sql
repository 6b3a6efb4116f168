-- The export of a request, its workspace, and the event of this person's word. $1 request, $2 who decided
SELECT e.id, e.workspace_id, a.event_id FROM evidence_export e JOIN approval a ON a.subject_id = e.request_id AND a.subject_type = 'export' AND a.approver_id = $2
WHERE e.request_id = $1 AND e.state = 'requested';
