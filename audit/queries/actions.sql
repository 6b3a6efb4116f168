-- The actions that begin with $1 and have happened, each found by one step in
-- the index.
WITH RECURSIVE a(action) AS (
    (SELECT e.action FROM audit.event e WHERE e.action ~>=~ $1 ORDER BY e.action USING ~<~ LIMIT 1)
    UNION ALL
    SELECT (SELECT e.action FROM audit.event e WHERE e.action ~>~ a.action ORDER BY e.action USING ~<~ LIMIT 1)
    FROM a WHERE starts_with(a.action, $1)
)
SELECT a.action FROM a WHERE starts_with(a.action, $1);
