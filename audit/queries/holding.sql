-- The newest events that hold a personal value in another place than the two that
-- they have a column for. $1 token of the value, $2 from, $3 to, $4 cursor (id), $5
-- only newer than this id, $6 limit
SELECT DISTINCT p.event_id FROM audit.pii p
WHERE p.blind = $1 AND p.path <> ALL ('{actor.email,source.ip}')
  AND p.event_id >= coalesce(audit.uuid_at($2), '00000000-0000-0000-0000-000000000000')
  AND p.event_id < coalesce(audit.uuid_at($3), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  AND p.event_id < coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  AND p.event_id > coalesce($5::uuid, '00000000-0000-0000-0000-000000000000')
ORDER BY p.event_id DESC
LIMIT $6;
