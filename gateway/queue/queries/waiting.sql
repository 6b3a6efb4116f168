-- What waits for each destination, the longest queue first. $1 workspaces
SELECT d.destination, count(*), min(d.created_at), min(d.next_attempt_at), max(s.down_since), max(s.down_until), coalesce(max(s.last_error), '')
FROM delivery d LEFT JOIN delivery_destination s ON s.name = d.destination
WHERE d.workspace_id = ANY ($1) AND d.state IN ('queued', 'delivering')
GROUP BY d.destination ORDER BY count(*) DESC, d.destination LIMIT 100;
