-- Says what a process still has of the limits of reactions, and names those of which it has nothing any more, since it was taken for gone.
-- $1 process, $2 reactions, $3 how much of each, $4 for how long
WITH have AS (SELECT x.reaction, x.amount FROM unnest($2::uuid[], $3::int[]) x(reaction, amount)),
kept AS (
    UPDATE alert_reaction_share s SET amount = h.amount, until = CASE WHEN h.amount > 0 THEN clock_timestamp() + $4::interval ELSE clock_timestamp() END
    FROM have h WHERE s.reaction_id = h.reaction AND s.holder = $1 AND s.until >= clock_timestamp() RETURNING s.reaction_id)
SELECT reaction FROM have WHERE reaction NOT IN (SELECT reaction_id FROM kept);
