-- What was found bad after it was decided, the newest first, with who has the mail. $1 since, $2 workspaces; null: all, $3 domain of who has it; '': any,
-- $4 by the sandbox, not by a scan of what was missed, $5 also what nobody has, $6 how many
WITH late AS (
    SELECT c.item_id, c.workspace_id, c.class, c.found, c.at FROM coverage_scan_item c WHERE NOT $4 AND c.state = 'worse' AND c.at >= $1
    UNION ALL
    SELECT i.id, i.workspace_id, i.class, jsonb_path_query_array(i.findings, '$[*] ? (@.engine == "sandbox")'), i.malicious_late_at FROM quarantine_item i WHERE $4 AND i.malicious_late_at >= $1)
SELECT l.item_id, q.mail_id, l.workspace_id, l.class, l.found, l.at, q.subject, coalesce(h.list, '[]')
FROM late l JOIN quarantine_item q ON q.id = l.item_id CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object('address', x.address, 'since', x.at) ORDER BY x.at) AS list FROM (
        SELECT o.recipient AS address, min(o.at) AS at FROM mail_outcome o WHERE NOT $4 AND o.mail_id = q.mail_id AND o.state IN ('relayed', 'outcome_unknown') GROUP BY o.recipient
        UNION ALL
        SELECT r.address, r.updated_at FROM quarantine_recipient r WHERE $4 AND r.item_id = q.id AND r.state IN ('delivering', 'release_scheduled', 'released', 'outcome_unknown')) x
    WHERE $3 = '' OR lower(split_part(x.address, '@', -1)) = lower($3)) h
WHERE ($2::uuid[] IS NULL OR l.workspace_id = ANY ($2)) AND ($5 OR h.list IS NOT NULL)
ORDER BY l.at DESC, l.item_id LIMIT $6;
