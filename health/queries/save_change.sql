INSERT INTO health_change (id, component, node, at, before, state, code, reason, says)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO NOTHING
