-- Ends a release of which nothing is under way any more. $1 release, $2 its new state
UPDATE release SET state = $2 WHERE id = $1 AND state = 'approved' AND NOT EXISTS (SELECT FROM delivery d WHERE d.release_id = $1 AND d.state IN ('queued', 'delivering'));
