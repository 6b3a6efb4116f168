-- One page of events, newest first. Empty text and null select all.
-- $1 workspaces, $2 whether events of the whole installation count too, $3 one
-- workspace, $4 actions, $5 actions to leave out, $6 actor (id or type), $7
-- blind index of the actor's address, $8 target, $9 outcome, $10 blind index of
-- the source address, $11 application, $12 route, $13 way of signing in, $14
-- its provider, $15 approval (none, given), $16 an id that the event names,
-- $17 blind index of any personal value, $18 text: a target, or an action of
-- $19, $20 from, $21 to, $22 cursor (id), $23 limit
SELECT e.id, e.recorded_at, e.db_role, e.bytes, l.seq, l.leaf_hash
FROM audit.event e LEFT JOIN audit.leaf l ON l.event_id = e.id AND l.retention = e.retention
WHERE ($1::uuid[] IS NULL OR e.workspace_id = ANY ($1) OR ($2 AND e.workspace_id IS NULL))
  AND ($3::uuid IS NULL OR e.workspace_id = $3)
  AND ($4::text[] IS NULL OR e.action = ANY ($4))
  AND ($5::text[] IS NULL OR e.action <> ALL ($5))
  AND ($6 = '' OR e.actor_id = lower($6) OR e.actor_type = lower($6))
  AND ($7::bytea IS NULL OR e.actor_blind = $7)
  AND ($8 = '' OR e.target_ids @> ARRAY[$8])
  AND ($9 = '' OR e.outcome = $9)
  AND ($10::bytea IS NULL OR e.ip_blind = $10)
  AND ($11 = '' OR e.facts ->> 'application' = $11)
  AND ($12 = '' OR e.facts ->> 'route' = $12)
  AND ($13 = '' OR e.facts ->> 'method' = $13)
  AND ($14 = '' OR e.facts ->> 'provider' = $14)
  AND ($15 = '' OR e.facts ->> 'approval' = $15)
  AND ($16::uuid IS NULL OR e.id = $16 OR e.actor_id = $16::text OR e.facts -> 'links' @> to_jsonb($16::text))
  AND ($17::bytea IS NULL OR e.id IN (SELECT p.event_id FROM audit.pii p WHERE p.blind = $17))
  AND ($18 = '' OR e.target_ids @> ARRAY[$18] OR e.action = ANY ($19))
  AND ($20::timestamptz IS NULL OR e.id >= audit.uuid_at($20))
  AND ($21::timestamptz IS NULL OR e.id < audit.uuid_at($21))
  AND ($22::uuid IS NULL OR e.id < $22)
ORDER BY e.id DESC
LIMIT $23;
