-- Remembers an alert.
INSERT INTO alert (id, rule_id, workspace_id, subject, number, phase, since, seen, value, usual, episode, fired_at, notified_at, alarmed, acked, silent, muted)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (rule_id, workspace_id, subject) DO UPDATE SET number = excluded.number, phase = excluded.phase, since = excluded.since, seen = excluded.seen,
    value = excluded.value, usual = excluded.usual, episode = excluded.episode, fired_at = excluded.fired_at, notified_at = excluded.notified_at,
    alarmed = excluded.alarmed, acked = excluded.acked, silent = excluded.silent, muted = excluded.muted;
