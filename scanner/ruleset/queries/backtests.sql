-- Trials of a set, the newest first, or one trial. $1 set or NULL, $2 trial or NULL
SELECT b.id, b.set_id, b.number, b.mails, b.workspaces, coalesce(nullif(u.name, ''), u.email, b.requester), b.state, b.total, b.done, b.result, b.error, b.created_at, b.finished_at
FROM yara_backtest b LEFT JOIN user_account u ON u.id = b.requested_by
WHERE ($1::uuid IS NULL OR b.set_id = $1) AND ($2::uuid IS NULL OR b.id = $2) ORDER BY b.created_at DESC LIMIT 20;
