-- $1 id, $2 channel, $3 message
INSERT INTO alert_notification (id, channel_id, message) VALUES ($1, $2, $3);
