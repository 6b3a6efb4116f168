-- Ends a trial. $1 trial, $2 who, $3 state, $4 result, $5 error
UPDATE yara_backtest SET state = $3, result = $4, error = $5, finished_at = now(), lease_until = NULL WHERE id = $1 AND lease_owner = $2 AND state = 'running';
