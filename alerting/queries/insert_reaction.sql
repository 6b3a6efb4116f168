-- Begins a reaction; no row where the same one is in force, or where it has begun for this episode. $1 id, $2 workspace or null, $3 rule or null, $4 alert or null,
-- $5 episode or null, $6 kind, $7 dry run, $8 domain, $9 direction or '', $10 match, $11 value, $12 divisor, $13 most, $14 cause, $15 reason, $16 author's id or null,
-- $17 author, $18 how long
INSERT INTO alert_reaction (id, workspace_id, rule_id, alert_id, episode, kind, dry_run, domain, direction, match, value, divisor, most, cause, reason, author_id, author, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, now() + $18::interval) ON CONFLICT DO NOTHING;
