-- Reactions whose time is over, or that have touched as much as they may and are not marked so.
SELECT id, coalesce(rule_id, '00000000-0000-0000-0000-000000000000'), cause, ends_at <= now() FROM alert_reaction r
WHERE ended_at IS NULL AND (ends_at <= now() OR full_at IS NULL AND (SELECT count(*) FROM alert_reaction_touch t WHERE t.reaction_id = r.id) >= most) ORDER BY id;
