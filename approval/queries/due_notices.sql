-- Who has not been told yet of requests that they can decide on: not the one who asks, nobody whom that one has let in
-- since $3, and nobody who is asked about. Whoever got a mail a moment ago gets the next ones together.
-- $1 roles that decide in a workspace, $2 roles that decide for the installation
WITH waiting AS (
    SELECT id, workspace_id, 'release' AS kind, requested_by, created_at, NULL AS about,
           (SELECT q.address FROM quarantine_recipient q WHERE q.id = release.asked_by) AS asked_by FROM release WHERE state = 'requested'
    UNION ALL
    SELECT id, workspace_id, kind, requested_by, created_at, detail ->> 'user_id', NULL FROM approval_request WHERE state = 'requested'
)
SELECT w.id, w.kind, coalesce(s.name, ''), coalesce(r.email, w.asked_by, ''), w.created_at, u.id, u.email, u.locale
FROM waiting w LEFT JOIN user_account r ON r.id = w.requested_by LEFT JOIN workspace s ON s.id = w.workspace_id
JOIN user_account u ON u.state = 'active' AND u.id IS DISTINCT FROM w.requested_by AND u.id::text IS DISTINCT FROM w.about
WHERE EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id
        AND (g.workspace_id = w.workspace_id AND g.role = ANY ($1) OR g.workspace_id IS NULL AND g.role = ANY (CASE WHEN w.workspace_id IS NULL THEN $2 ELSE $1 END)))
  AND NOT coalesce(u.created_by = w.requested_by::text AND u.created_at > $3, false)
  AND NOT EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND g.granted_by = w.requested_by::text AND g.granted_at > $3)
  AND NOT EXISTS (SELECT FROM approval_notice n WHERE n.request_id = w.id AND n.user_id = u.id
        AND (n.delivery_id IS NOT NULL OR n.tries >= 5 OR n.claimed_at > now() - interval '5 minutes'))
  AND NOT EXISTS (SELECT FROM approval_notice n WHERE n.user_id = u.id AND n.delivery_id IS NOT NULL AND n.claimed_at > now() - interval '5 minutes')
ORDER BY u.id, w.created_at LIMIT 500;
