-- Removes old entries of the logs. $1 how long they are kept
WITH n AS (DELETE FROM alert_notification WHERE created_at < now() - $1::interval), e AS (DELETE FROM alert_event WHERE at < now() - $1::interval),
     t AS (DELETE FROM alert_reaction_touch WHERE at < now() - $1::interval), h AS (DELETE FROM alert_reaction_share WHERE until < now() - interval '1 day')
DELETE FROM metric_source WHERE written_at < now() - interval '1 day';
