-- A new rule; no row when one of the pack is there, or was. $1 id, $2 workspace or null, $3 pack or null, $4 spec
INSERT INTO alert_rule (id, workspace_id, pack, spec) VALUES ($1, $2, $3, $4) ON CONFLICT (pack) DO NOTHING;
