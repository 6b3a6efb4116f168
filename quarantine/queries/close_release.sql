-- Ends a release whose deliveries have all ended. $1 release
UPDATE release SET state = CASE WHEN EXISTS (SELECT FROM delivery d WHERE d.release_id = $1 AND d.state = 'failed') THEN 'failed' ELSE 'done' END
WHERE id = $1 AND state = 'approved' AND NOT EXISTS (SELECT FROM delivery d WHERE d.release_id = $1 AND d.state IN ('queued', 'delivering'));
