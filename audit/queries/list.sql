-- One page of events, newest first. Empty text and null select all.
-- $1 workspaces, $2 action, $3 action prefix (LIKE), $4 actor (an address, an id
-- or a type), $5 target, $6 outcome, $7 free text, $8 from, $9 to, $10 cursor
-- (id), $11 limit, $12 whether events of the whole installation count too, $13 actions to leave out
SELECT e.id, e.recorded_at, e.db_role, e.bytes, l.seq, l.leaf_hash
FROM audit.event e LEFT JOIN audit.leaf l ON l.event_id = e.id AND l.retention = e.retention
WHERE ($1::uuid[] IS NULL OR e.workspace_id = ANY ($1) OR ($12 AND e.workspace_id IS NULL))
  AND ($2 = '' OR e.action = $2)
  AND ($3 = '' OR e.action LIKE $3)
  AND ($13::text[] IS NULL OR e.action <> ALL ($13))
  AND ($4 = '' OR CASE WHEN strpos($4, '@') > 0 THEN e.actor_blind = ANY ((SELECT audit.tokens($4))::bytea[])
                       ELSE e.actor_id = lower($4) OR e.actor_type = lower($4) END)
  AND ($5 = '' OR e.target_ids @> ARRAY[$5])
  AND ($6 = '' OR e.outcome = $6)
  -- The blind indexes are asked once, not for each row.
  AND ($7 = '' OR e.id::text = lower($7) OR e.target_ids @> ARRAY[$7] OR strpos(e.action, lower($7)) > 0
       OR e.actor_blind = ANY ((SELECT audit.tokens($7))::bytea[]) OR e.ip_blind = ANY ((SELECT audit.tokens($7))::bytea[])
       OR e.id IN (SELECT p.event_id FROM audit.pii p WHERE p.blind = ANY ((SELECT audit.tokens($7))::bytea[])))
  AND ($8::timestamptz IS NULL OR e.id >= audit.uuid_at($8))
  AND ($9::timestamptz IS NULL OR e.id < audit.uuid_at($9))
  AND ($10::uuid IS NULL OR e.id < $10)
ORDER BY e.id DESC
LIMIT $11;
