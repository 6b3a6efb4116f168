-- Gives a process a part of what a reaction may still touch, and says how much and whether that is all. Run it behind lock_reaction, in a statement of its own: it
-- has to see what the one before has taken. $1 reaction, $2 process, $3 what the process has of it, $4 how much at most, $5 in how many parts, $6 for how long
WITH room AS (
    SELECT r.id, r.most - $3::int - (SELECT count(*) FROM alert_reaction_touch t WHERE t.reaction_id = r.id)
                 - (SELECT coalesce(sum(s.amount), 0) FROM alert_reaction_share s WHERE s.reaction_id = r.id AND s.holder <> $2 AND s.until >= clock_timestamp()) AS free
    FROM alert_reaction r WHERE r.id = $1 AND r.ended_at IS NULL AND r.ends_at > clock_timestamp()),
give AS (SELECT id, greatest(0, least($4::int, ceil(free::numeric / $5::int)))::int AS n FROM room),
put AS (
    INSERT INTO alert_reaction_share AS s (reaction_id, holder, amount, until) SELECT id, $2, $3::int + n, clock_timestamp() + $6::interval FROM give
    ON CONFLICT (reaction_id, holder) DO UPDATE SET amount = EXCLUDED.amount, until = EXCLUDED.until)
SELECT n, n >= room.free FROM give, room;
