-- Has a reaction touch a release, as long as it is in force and not full, and says whether it does: what it touched before it does until
-- its end. Run it behind lock_reaction, in a statement of its own. $1 reaction, $2 mail
WITH put AS (
    INSERT INTO alert_reaction_touch (reaction_id, thing_id)
    SELECT r.id, $2 FROM alert_reaction r WHERE r.id = $1 AND r.ended_at IS NULL AND r.ends_at > now()
       AND (SELECT count(*) FROM alert_reaction_touch t WHERE t.reaction_id = r.id) < r.most
    ON CONFLICT DO NOTHING RETURNING 1)
SELECT EXISTS (SELECT 1 FROM put) OR EXISTS (
    SELECT 1 FROM alert_reaction r JOIN alert_reaction_touch t ON t.reaction_id = r.id
    WHERE r.id = $1 AND t.thing_id = $2 AND r.ended_at IS NULL AND r.ends_at > now());
