-- $1 id, $2 workspace (null: installation), $3 kind, $4 what will be done, $5 who asks, $6 reason, $7 intent event
INSERT INTO approval_request (id, workspace_id, kind, detail, requested_by, reason, intent_event_id) VALUES ($1, $2, $3, $4, $5, $6, $7);
