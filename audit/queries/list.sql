-- One page of events, newest first. Empty text and null select all.
-- $1 workspaces, $2 whether events of the whole installation count too, $3 one
-- workspace, $4 action, $5 actions to leave out, $6 id of the actor, $7 type of
-- the actor, $8 token of the actor's address, $9 target, $10 outcome, $11 token
-- of the source address, $12 application, $13 route, $14 way of signing in, $15
-- its provider, $16 approval (none, given), $17 an id that the event names, $18
-- ids of events, $19 from, $20 to, $21 cursor (id), $22 only newer than this id,
-- $23 limit
SELECT h.id, h.recorded_at, h.db_role, h.bytes, l.seq, l.leaf_hash
FROM (
    SELECT e.id, e.retention, e.recorded_at, e.db_role, e.bytes FROM audit.event e
    WHERE ($4::text IS NULL OR e.action = $4)
      AND ($1::uuid[] IS NULL OR e.workspace_id = ANY ($1) OR ($2 AND e.workspace_id IS NULL))
      AND ($3::uuid IS NULL OR e.workspace_id = $3)
      AND ($5::text[] IS NULL OR e.action <> ALL ($5))
      AND ($6 = '' OR e.actor_id = $6)
      AND ($7 = '' OR e.actor_type = $7)
      AND ($8::bytea IS NULL OR e.actor_blind = $8)
      AND ($9 = '' OR e.target_ids @> ARRAY[$9])
      AND ($10 = '' OR e.outcome = $10)
      AND ($11::bytea IS NULL OR e.ip_blind = $11)
      AND ($12 = '' OR e.facts ->> 'application' = $12)
      AND ($13 = '' OR e.facts ->> 'route' = $13)
      AND ($14 = '' OR e.facts ->> 'method' = $14)
      AND ($15 = '' OR e.facts ->> 'provider' = $15)
      AND ($16 = '' OR e.facts ->> 'approval' = $16)
      AND ($17 = '' OR e.links @> ARRAY[$17])
      AND ($18::uuid[] IS NULL OR e.id = ANY ($18))
      AND ($19::timestamptz IS NULL OR e.id >= audit.uuid_at($19))
      AND ($20::timestamptz IS NULL OR e.id < audit.uuid_at($20))
      AND ($21::uuid IS NULL OR e.id < $21)
      AND ($22::uuid IS NULL OR e.id > $22)
    ORDER BY e.id DESC
    LIMIT $23
) h LEFT JOIN audit.leaf l ON l.event_id = h.id AND l.retention = h.retention
ORDER BY h.id DESC;
