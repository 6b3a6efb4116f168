-- What scans have found late, the newest first, with who has the mail. $1 workspaces, $2 how many
SELECT i.item_id, q.mail_id, i.workspace_id, i.class, i.found, i.at, q.subject,
       coalesce((SELECT jsonb_agg(jsonb_build_object('address', o.recipient, 'since', o.at) ORDER BY o.at) FROM (
           SELECT recipient, min(at) AS at FROM mail_outcome WHERE mail_id = q.mail_id AND state IN ('relayed', 'outcome_unknown') GROUP BY recipient) o), '[]')
FROM coverage_scan_item i JOIN quarantine_item q ON q.id = i.item_id
WHERE i.workspace_id = ANY ($1) AND i.state = 'worse' ORDER BY i.at DESC, i.item_id LIMIT $2;
