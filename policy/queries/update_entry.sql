-- Changes an entry that is still as it was read. $1 id, $2 workspace, $3 domain, $4 group or NULL, $5 direction, $6 kind, $7 match, $8 value, $9 classes, $10 class, $11 action,
-- $12 owner, $13 reason, $14 end or NULL, $15 version
UPDATE policy_entry SET domain = $3, group_id = $4, direction = $5, kind = $6, match = $7, value = $8, classes = $9, class = $10, action = $11, owner = $12, reason = $13,
    expires_at = $14, version = version + 1, updated_at = now()
WHERE id = $1 AND workspace_id = $2 AND version = $15;
