-- One page of entries, newest first. $1 workspaces, $2 search text for LIKE or '', $3 kind or '', $4 match or '', $5 active, ended or '', $6 cursor, $7 limit
SELECT e.id, e.workspace_id, e.domain, e.group_id, e.direction, e.kind, e.match, e.value, e.classes, e.class, e.action, e.owner, e.reason, e.expires_at, e.created_by, e.version, e.created_at, e.updated_at, coalesce(u.hits, 0), u.last_hit_at
FROM policy_entry e LEFT JOIN policy_entry_use u ON u.entry_id = e.id
WHERE e.workspace_id = ANY ($1)
  AND ($2 = '' OR lower(e.value) LIKE $2 OR lower(e.reason) LIKE $2 OR lower(e.owner) LIKE $2 OR e.domain LIKE $2)
  AND ($3 = '' OR e.kind = $3)
  AND ($4 = '' OR e.match = $4)
  AND ($5 = '' OR ($5 = 'ended') = (e.expires_at IS NOT NULL AND e.expires_at <= now()))
  AND ($6::uuid IS NULL OR e.id < $6)
ORDER BY e.id DESC LIMIT $7;
