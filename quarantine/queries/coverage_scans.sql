-- The newest scans, with what they came to in some workspaces. $1 workspaces, $2 how many
SELECT c.id, c.from_at, c.to_at, c.reason, c.author, c.state, c.trouble, c.cut, c.created_at, c.finished_at,
       n.total, n.pending, n.same, n.worse, n.gone, n.failed
FROM coverage_scan c CROSS JOIN LATERAL (
    SELECT count(*)::int AS total, (count(*) FILTER (WHERE state = 'pending'))::int AS pending, (count(*) FILTER (WHERE state = 'same'))::int AS same,
           (count(*) FILTER (WHERE state = 'worse'))::int AS worse, (count(*) FILTER (WHERE state = 'gone'))::int AS gone, (count(*) FILTER (WHERE state = 'failed'))::int AS failed
    FROM coverage_scan_item i WHERE i.scan_id = c.id AND i.workspace_id = ANY ($1)) n
WHERE c.workspaces && $1 ORDER BY c.id DESC LIMIT $2;
