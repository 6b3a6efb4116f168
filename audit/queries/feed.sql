-- Numbered events from $1 to before $2 within what the filter selects, in the
-- order of their numbers. $3 workspaces, $4 whether events of the whole
-- installation count too, $5 actions, $6 outcome
SELECT e.id, e.recorded_at, e.db_role, e.bytes, l.seq, l.leaf_hash
FROM audit.leaf l JOIN audit.event e ON e.retention = l.retention AND e.id = l.event_id
WHERE l.seq >= $1 AND l.seq < $2
  AND ($3::uuid[] IS NULL OR e.workspace_id = ANY ($3) OR ($4 AND e.workspace_id IS NULL))
  AND ($5::text[] IS NULL OR e.action = ANY ($5))
  AND ($6 = '' OR e.outcome = $6)
ORDER BY l.seq
LIMIT $7;
