-- Requests that wait for a second person. $1 workspaces
SELECT r.id, r.item_id, r.workspace_id, r.requested_by, u.email, r.reason, r.created_at
FROM release r JOIN user_account u ON u.id = r.requested_by WHERE r.state = 'requested' AND r.workspace_id = ANY ($1) ORDER BY r.created_at;
