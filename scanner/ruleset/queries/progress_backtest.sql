-- Notes how far a trial is, and renews its lease. $1 trial, $2 who, $3 for how long, $4 mails in all, $5 of them done
UPDATE yara_backtest SET lease_until = now() + $3::interval, total = $4, done = $5 WHERE id = $1 AND lease_owner = $2 AND state = 'running';
