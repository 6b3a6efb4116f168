-- The channels that are not deleted, with how they do. $1 one of them, or null
SELECT c.id, coalesce(c.workspace_id, '00000000-0000-0000-0000-000000000000'), c.name, c.kind, c.target, c.secret, c.language, c.everything, c.severity, c.per_minute, c.enabled, c.version,
       (SELECT max(ended_at) FROM alert_notification n WHERE n.channel_id = c.id AND n.state = 'sent'),
       (SELECT count(*) FROM alert_notification n WHERE n.channel_id = c.id AND n.state = 'queued'),
       coalesce((SELECT error FROM alert_notification n WHERE n.channel_id = c.id AND tries > 0 ORDER BY tried_at DESC NULLS LAST LIMIT 1), '')
FROM alert_channel c WHERE c.deleted_at IS NULL AND ($1::uuid IS NULL OR c.id = $1) ORDER BY lower(c.name), c.id;
