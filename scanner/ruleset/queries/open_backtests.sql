-- How many trials have not ended.
SELECT count(*) FROM yara_backtest WHERE state IN ('queued', 'running');
