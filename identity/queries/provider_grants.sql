-- Roles that a provider's groups gave. $1 account, $2 by whom
SELECT id, workspace_id, role FROM role_grant WHERE user_id = $1 AND granted_by = $2;
