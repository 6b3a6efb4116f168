-- When the first event that is still there was recorded; null without any.
SELECT (SELECT e.recorded_at FROM audit.event e ORDER BY e.id LIMIT 1);
