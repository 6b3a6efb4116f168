-- The last acts of somebody, or one of them. $1 owner, $2 act (null: the last 50)
SELECT b.id, b.owner_id, b.act, b.reason, b.query, b.cut, b.state, b.trouble, b.total, count(*) FILTER (WHERE i.state = 'done'), count(*) FILTER (WHERE i.state = 'waiting'),
       count(*) FILTER (WHERE i.state = 'refused'), count(*) FILTER (WHERE i.state = 'failed'), b.event_id, b.created_at, b.finished_at
FROM (SELECT * FROM quarantine_bulk WHERE owner_id = $1 AND ($2::uuid IS NULL OR id = $2) ORDER BY created_at DESC LIMIT 50) b
LEFT JOIN quarantine_bulk_item i ON i.bulk_id = b.id
GROUP BY b.id, b.owner_id, b.act, b.reason, b.query, b.cut, b.state, b.trouble, b.total, b.event_id, b.created_at, b.finished_at ORDER BY b.created_at DESC;
