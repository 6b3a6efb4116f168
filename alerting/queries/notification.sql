-- One notification with its channel, as it is now. $1 id
SELECT n.message, n.state, n.tries, n.created_at, c.id, c.name, c.kind, c.target, c.secret, c.language, c.per_minute, c.enabled AND c.deleted_at IS NULL
FROM alert_notification n JOIN alert_channel c ON c.id = n.channel_id WHERE n.id = $1;
