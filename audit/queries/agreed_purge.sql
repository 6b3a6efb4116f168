-- What a second person has agreed to for the month $1, as audit.purge_month asks for it.
SELECT a.subject_id FROM approval a
WHERE a.subject_type = 'retention' AND a.comment = $1 AND a.decision = 'approved' AND a.approver_id <> a.requested_by AND a.decided_at > now() - interval '7 days'
  AND NOT EXISTS (SELECT FROM approval d WHERE d.subject_type = 'retention' AND d.subject_id = a.subject_id AND d.decision = 'denied')
ORDER BY a.decided_at DESC LIMIT 1;
