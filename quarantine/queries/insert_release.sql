-- Adds a release. $1 id, $2 workspace, $3 item, $4 recipient ids, $5 intent event, $6 person, $7 reason, $8 mode, $9 state, $10 class, $11 reason code,
-- $12 end of a request, $13 insisted, $14 again, $15 states before, $16 recipient who asks
INSERT INTO release (id, workspace_id, item_id, recipient_ids, intent_event_id, requested_by, reason, mode, state, class, reason_code, expires_at, insisted, again, prior, asked_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);
