-- Takes one of the sendings of a minute; no row when all are taken. The lock on the channel makes it exact.
-- $1 channel, $2 notification
WITH c AS (SELECT id, per_minute FROM alert_channel WHERE id = $1 FOR UPDATE)
UPDATE alert_notification n SET tried_at = clock_timestamp(), tries = tries + 1 FROM c
WHERE n.id = $2 AND n.state = 'queued' AND (SELECT count(*) FROM alert_notification o WHERE o.channel_id = c.id AND o.id <> $2 AND o.tried_at > clock_timestamp() - interval '1 minute') < c.per_minute
RETURNING n.tries;
