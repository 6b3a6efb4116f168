-- Notifications whose job has died: nobody has touched them for a while. $1 how long
SELECT id FROM alert_notification WHERE state = 'queued' AND coalesce(tried_at, created_at) < now() - $1::interval ORDER BY id LIMIT 100;
