-- All entries that have not ended.
SELECT e.id, e.workspace_id, e.domain, e.group_id, e.direction, e.kind, e.match, e.value, e.classes, e.class, e.action, e.owner, e.reason, e.expires_at, e.created_by, e.version, e.created_at, e.updated_at, coalesce(u.hits, 0), u.last_hit_at
FROM policy_entry e LEFT JOIN policy_entry_use u ON u.entry_id = e.id
WHERE e.expires_at IS NULL OR e.expires_at > now() ORDER BY e.id;
