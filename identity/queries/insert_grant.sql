-- $1 id, $2 account, $3 workspace (null: installation), $4 role, $5 by whom
INSERT INTO role_grant (id, user_id, workspace_id, role, granted_by) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING;
