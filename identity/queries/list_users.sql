-- Accounts by address, each with the grants that may be seen. $1 workspaces (null: everything), $2 who looks, $3 part of address or name,
-- $4 state, $5 role, $6 after this address, $7 at most, $8 only this account
SELECT u.id, u.email, u.name, u.state, u.must_change_password, u.created_at, u.last_login_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('workspace_id', g.workspace_id, 'workspace', coalesce(w.name, ''), 'role', g.role, 'granted_at', g.granted_at,
                                                     'granted_by', coalesce(b.email, g.granted_by)) ORDER BY w.name NULLS FIRST, g.role), '[]')
        FROM role_grant g LEFT JOIN workspace w ON w.id = g.workspace_id LEFT JOIN user_account b ON b.id::text = g.granted_by
        WHERE g.user_id = u.id AND ($1::uuid[] IS NULL OR g.workspace_id = ANY ($1))),
       $1::uuid[] IS NOT NULL AND EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND (g.workspace_id IS NULL OR NOT g.workspace_id = ANY ($1)))
FROM user_account u
WHERE ($1::uuid[] IS NULL OR u.id = $2 OR EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND g.workspace_id = ANY ($1))
       OR u.created_by = $2::text AND NOT EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id))
  AND ($3 = '' OR position(lower($3) IN lower(u.email || ' ' || u.name)) > 0)
  AND ($4 = '' OR u.state = $4)
  AND ($5 = '' OR EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND g.role = $5 AND ($1::uuid[] IS NULL OR g.workspace_id = ANY ($1))))
  AND ($6 = '' OR u.email > $6) AND ($8::uuid IS NULL OR u.id = $8)
ORDER BY u.email LIMIT $7;
