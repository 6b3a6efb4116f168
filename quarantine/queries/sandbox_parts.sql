-- What the sandbox was asked about some item, the latest question first. $1 item
SELECT encode(p.sha256, 'hex'), p.name, p.path, CASE WHEN p.skipped <> '' THEN 'skipped' WHEN h.decided_at IS NOT NULL AND coalesce(t.state, '') <> 'finished' THEN 'given_up'
       ELSE coalesce(t.state, 'queued') END,
       CASE WHEN p.skipped <> '' THEN 'none' ELSE coalesce(t.verdict, '') END, coalesce(t.score, 0), coalesce(t.family, ''), coalesce(t.signatures, '[]'),
       CASE WHEN p.skipped <> '' THEN p.skipped ELSE coalesce(t.error, '') END, h.created_at, h.deadline, h.decided_at
FROM sandbox_hold h JOIN sandbox_part p ON p.hold_id = h.id LEFT JOIN sandbox_task t ON t.id = p.task_id
WHERE h.item_id = $1 ORDER BY h.created_at DESC, p.path LIMIT 100;
