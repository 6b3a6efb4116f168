SELECT at, node, before, state, code, reason, says
FROM health_change
WHERE component = $1
ORDER BY at DESC, id DESC
LIMIT $2
