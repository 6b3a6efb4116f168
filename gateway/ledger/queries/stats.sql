-- Decisions per step of time, empty steps included. $1 workspaces, $2 from, $3 to, $4 step
WITH step AS (
    SELECT t AS at FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 microsecond', $4::interval) t
), counted AS (
    SELECT date_bin($4::interval, m.received_at, $2::timestamptz) AS at,
           count(*) FILTER (WHERE m.action IN ('deliver', 'tag')) AS delivered,
           count(*) FILTER (WHERE m.action IN ('quarantine', 'hold', 'mixed')) AS quarantined,
           count(*) FILTER (WHERE m.action = 'reject') AS rejected,
           count(*) FILTER (WHERE m.action = 'defer') AS deferred,
           count(*) FILTER (WHERE m.class IN ('malware', 'phishing')) AS threats,
           count(*) AS total,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY m.scan_ms) AS p95
    FROM mail m
    WHERE m.workspace_id = ANY ($1) AND m.id >= audit.uuid_at($2) AND m.id < audit.uuid_at($3) AND m.received_at >= $2 AND m.received_at < $3
    GROUP BY 1
)
SELECT s.at, coalesce(c.delivered, 0)::int, coalesce(c.quarantined, 0)::int, coalesce(c.rejected, 0)::int, coalesce(c.deferred, 0)::int,
       coalesce(c.threats, 0)::int, coalesce(c.total, 0)::int, coalesce(c.p95, 0)::float8
FROM step s LEFT JOIN counted c USING (at) ORDER BY s.at;
