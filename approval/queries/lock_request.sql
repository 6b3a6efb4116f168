-- One request, locked. $1 id
SELECT id, workspace_id, kind, detail, requested_by, reason, intent_event_id, state, created_at FROM approval_request WHERE id = $1 FOR UPDATE;
