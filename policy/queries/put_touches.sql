-- What reactions have touched. $1 reactions, $2 what, $3 when
INSERT INTO alert_reaction_touch (reaction_id, thing_id, at) SELECT x.reaction, x.thing, x.at FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) x(reaction, thing, at)
ON CONFLICT DO NOTHING;
