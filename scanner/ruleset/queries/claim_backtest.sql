-- Takes up the oldest trial that nobody runs. $1 who, $2 for how long
UPDATE yara_backtest SET state = 'running', lease_owner = $1, lease_until = now() + $2::interval, started_at = coalesce(started_at, now()), tries = tries + 1, total = 0, done = 0
WHERE id = (SELECT b.id FROM yara_backtest b WHERE b.state = 'queued' OR b.state = 'running' AND b.lease_until < now()
            ORDER BY b.created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, set_id, number, mails, workspaces, tries;
