-- The log of channels, the newest first. $1 channels, $2 before this one, or null, $3 how many
SELECT n.id, n.channel_id, c.name, c.kind, n.message, n.state, n.tries, n.error, n.created_at, n.ended_at
FROM alert_notification n JOIN alert_channel c ON c.id = n.channel_id
WHERE n.channel_id = ANY ($1) AND ($2::uuid IS NULL OR n.id < $2) ORDER BY n.id DESC LIMIT $3;
