-- Reactions, those in force first; of the installation's not those about a domain of others (one that is only configured is the
-- default workspace's). $1 workspaces, null for all, $2 only those in force, $3 one of them, or null, $4 of one alert, or null
SELECT r.id, coalesce(r.workspace_id, '00000000-0000-0000-0000-000000000000'), coalesce(r.rule_id, '00000000-0000-0000-0000-000000000000'),
       coalesce(r.alert_id, '00000000-0000-0000-0000-000000000000'), r.kind, r.dry_run, r.domain, coalesce(nullif(r.direction, ''), 'both'), r.match, r.value, r.divisor, r.most,
       r.cause, r.reason, r.author, r.starts_at, r.ends_at, r.full_at, r.ended_at, coalesce(r.end_kind, ''), r.ended_by, r.end_reason,
       (SELECT count(*) FROM alert_reaction_touch t WHERE t.reaction_id = r.id)
FROM alert_reaction r
WHERE ($1::uuid[] IS NULL OR r.workspace_id = ANY ($1) OR r.workspace_id IS NULL AND (r.domain = ''
       OR coalesce((SELECT d.workspace_id FROM domain d WHERE d.name = r.domain), '00000000-0000-7000-8000-000000000001') = ANY ($1))) AND (NOT $2 OR r.ended_at IS NULL AND r.ends_at > now())
  AND ($3::uuid IS NULL OR r.id = $3) AND ($4::uuid IS NULL OR r.alert_id = $4)
ORDER BY r.ended_at IS NOT NULL, r.id DESC LIMIT 200;
