-- What a reaction has touched, the newest first. $1 reaction, $2 how many
SELECT thing_id, at FROM alert_reaction_touch WHERE reaction_id = $1 ORDER BY at DESC, thing_id DESC LIMIT $2;
