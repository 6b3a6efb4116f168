-- Files that were found malicious after a mail with them was decided otherwise, and of which nobody has been told; with the task that says so. $1 limit of files
SELECT h.id, p.sha256, t.id FROM sandbox_task t JOIN sandbox_part p ON p.sha256 = t.sha256 JOIN sandbox_hold h ON h.id = p.hold_id JOIN quarantine_item i ON i.id = h.item_id
WHERE t.verdict = 'malicious' AND t.finished_at > now() - interval '30 days' AND t.finished_at > h.created_at
  AND h.decided_at IS NOT NULL AND h.verdict <> 'malicious' AND i.malicious_late_at IS NULL ORDER BY h.id, t.finished_at LIMIT $1;
