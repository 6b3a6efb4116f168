-- Takes an alert that fires in hand; no row when somebody has it, or when it fires no more.
-- $1 id, $2 alert, $3 note, $4 author's id or null, $5 author
INSERT INTO alert_ack (id, alert_id, workspace_id, episode, note, author_id, author)
SELECT $1, id, nullif(workspace_id, '00000000-0000-0000-0000-000000000000'), episode, $3, $4, $5 FROM alert WHERE id = $2 AND phase = 'firing'
ON CONFLICT (alert_id, episode) DO NOTHING;
