-- Mails that were decided without the answer of an engine, in stretches: a pause of more than ten minutes ends one.
-- $1 workspaces, $2 from, $3 to
WITH missed AS (
    SELECT e ->> 'engine' AS engine, m.received_at AS at, m.action
    FROM mail m CROSS JOIN LATERAL jsonb_array_elements(m.engines) e
    WHERE m.workspace_id = ANY ($1) AND m.id >= audit.uuid_at($2) AND m.id < audit.uuid_at($3) AND m.received_at >= $2 AND m.received_at < $3
      AND m.engines @> '[{"answered": false}]' AND NOT (e ->> 'answered')::boolean
), marked AS (
    SELECT *, CASE WHEN at - lag(at) OVER (PARTITION BY engine ORDER BY at) <= interval '10 minutes' THEN 0 ELSE 1 END AS begins FROM missed
), numbered AS (
    SELECT *, sum(begins) OVER (PARTITION BY engine ORDER BY at ROWS UNBOUNDED PRECEDING) AS n FROM marked
)
SELECT engine, min(at), max(at), count(*)::int, count(*) FILTER (WHERE action = 'defer')::int, count(*) FILTER (WHERE action IN ('quarantine', 'hold', 'mixed'))::int,
       count(*) FILTER (WHERE action = 'reject')::int, count(*) FILTER (WHERE action IN ('deliver', 'tag'))::int
FROM numbered
GROUP BY engine, n
ORDER BY min(at) DESC
LIMIT 200
