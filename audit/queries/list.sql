-- One page of events, newest first. Empty text and null select all.
-- $1 workspaces, $2 action, $3 action prefix (LIKE), $4 actor, $5 target,
-- $6 outcome, $7 free text, $8 from, $9 to, $10 cursor (id), $11 limit
SELECT e.id, e.recorded_at, e.db_role, e.bytes, l.seq, l.leaf_hash
FROM audit.event e LEFT JOIN audit.leaf l ON l.event_id = e.id
WHERE ($1::uuid[] IS NULL OR e.workspace_id IS NULL OR e.workspace_id = ANY ($1))
  AND ($2 = '' OR e.action = $2)
  AND ($3 = '' OR e.action LIKE $3)
  AND ($4 = '' OR e.actor_id = $4 OR e.actor_type = $4 OR e.actor_blind = audit.blind($4))
  AND ($5 = '' OR e.target_ids @> ARRAY[$5])
  AND ($6 = '' OR e.outcome = $6)
  AND ($7 = '' OR e.id::text = $7 OR e.target_ids @> ARRAY[$7] OR strpos(e.action, lower($7)) > 0
       OR e.actor_blind = audit.blind($7) OR e.ip_blind = audit.blind($7)
       OR e.id IN (SELECT p.event_id FROM audit.pii p WHERE p.blind = audit.blind($7)))
  AND ($8::timestamptz IS NULL OR e.id >= audit.uuid_at($8))
  AND ($9::timestamptz IS NULL OR e.id < audit.uuid_at($9))
  AND ($10::uuid IS NULL OR e.id < $10)
ORDER BY e.id DESC
LIMIT $11;
