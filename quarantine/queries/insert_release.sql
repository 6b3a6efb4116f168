-- Adds a release. $1 id, $2 workspace, $3 item, $4 recipient ids, $5 intent event, $6 person, $7 reason, $8 mode, $9 state
INSERT INTO release (id, workspace_id, item_id, recipient_ids, intent_event_id, requested_by, reason, mode, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
