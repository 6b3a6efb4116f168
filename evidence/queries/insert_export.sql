-- $1 id, $2 workspace, $3 case, $4 items, $5 language, $6 legal hold, $7 reason, $8 what was decided, $9 how many decide, $10 account,
-- $11 its name, $12 request, $13 intent event, $14 state. Answers with the event that says so.
INSERT INTO evidence_export (id, workspace_id, case_id, item_ids, language, legal_hold, reason, detail, mode, requested_by, requested_name, request_id, intent_event_id, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING coalesce(intent_event_id, (SELECT r.intent_event_id FROM approval_request r WHERE r.id = request_id));
