-- Whether something that the account $1 has a say in is left to nobody: a workspace without an open administrator, or no open operator.
SELECT EXISTS (
    SELECT FROM role_grant g LEFT JOIN workspace w ON w.id = g.workspace_id
    WHERE g.user_id = $1 AND (g.workspace_id IS NOT NULL AND w.archived_at IS NULL AND g.role = 'admin' OR g.workspace_id IS NULL AND g.role = 'operator')
      AND NOT EXISTS (SELECT FROM role_grant o JOIN user_account u ON u.id = o.user_id
                      WHERE o.role = g.role AND o.workspace_id IS NOT DISTINCT FROM g.workspace_id AND u.state = 'active'));
