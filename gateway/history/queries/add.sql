-- Counts mails. In the order of the keys, so that two processes do not wait for
-- each other in a circle. $1 workspaces, $2 keys, $3 mails, $4 bad ones, $5 when first, $6 when last
INSERT INTO sender_history (workspace_id, key, mails, bad, first_seen, last_seen)
SELECT x.workspace, x.key, x.mails, x.bad, x.first, x.last
FROM unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[]) x (workspace, key, mails, bad, first, last)
WHERE EXISTS (SELECT FROM workspace w WHERE w.id = x.workspace)
ORDER BY x.workspace, x.key
ON CONFLICT (workspace_id, key) DO UPDATE SET mails = sender_history.mails + excluded.mails, bad = sender_history.bad + excluded.bad,
    last_seen = greatest(sender_history.last_seen, excluded.last_seen);
