-- Begins the evaluation at a time; no row when it has begun.
-- $1 time, $2 node
INSERT INTO alert_clock (evaluated, node, took_ms) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING;
