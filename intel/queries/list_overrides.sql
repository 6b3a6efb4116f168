-- One page of overrides, newest first. $1 workspaces, $2 state: active, ended or '', $3 now, $4 cursor, $5 how many, $6 part of a value, reason or owner
SELECT id, workspace_id, effect, kind, value, class, owner, reason, expires_at, created_by, version, created_at, updated_at
FROM intel_override
WHERE (workspace_id IS NULL OR workspace_id = ANY($1::uuid[]))
  AND ($2 = '' OR ($2 = 'active') = (expires_at IS NULL OR expires_at > $3))
  AND ($4::uuid IS NULL OR id < $4)
  AND ($6 = '' OR lower(value) LIKE $6 OR lower(reason) LIKE $6 OR lower(owner) LIKE $6)
ORDER BY id DESC LIMIT $5;
