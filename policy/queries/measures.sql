-- The reactions that are in force, with how much each has touched or processes have taken for it.
SELECT r.id, coalesce(r.workspace_id, '00000000-0000-0000-0000-000000000000'), r.kind, r.dry_run, r.domain, r.direction, r.match, r.value, r.divisor, r.most, r.cause, r.ends_at,
       (SELECT count(*) FROM alert_reaction_touch t WHERE t.reaction_id = r.id)
       + (SELECT coalesce(sum(s.amount), 0) FROM alert_reaction_share s WHERE s.reaction_id = r.id AND s.until >= now())
FROM alert_reaction r WHERE r.ended_at IS NULL AND r.ends_at > now() ORDER BY r.id;
