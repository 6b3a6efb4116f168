-- $1 id, $2 workspace, $3 class, $4 people, $5 hours, $6 days, $7 version that was looked at; 0: none was there
INSERT INTO quarantine_rule AS r (id, workspace_id, class, people, request_hours, keep_days) VALUES ($1, $2, $3, nullif($4, 0), nullif($5, 0), nullif($6, 0))
ON CONFLICT (workspace_id, class) DO UPDATE SET people = excluded.people, request_hours = excluded.request_hours, keep_days = excluded.keep_days,
    updated_at = now(), version = r.version + 1 WHERE r.version = $7;
