-- Whether as many people decided on a release as the rules of its time wanted. $1 release, $2 classes that take two where an
-- installation wants four eyes
SELECT CASE r.mode
    WHEN 'required' THEN true
    WHEN 'sandbox' THEN true
    WHEN 'single_operator' THEN coalesce(q.people, 1) = 1 AND NOT EXISTS (SELECT FROM setting s WHERE s.key = 'four_eyes' AND s.value = '"required"' AND s.updated_at <= r.created_at)
    WHEN 'one_person' THEN coalesce(q.people, CASE WHEN r.class = ANY ($2) THEN 2 ELSE 1 END) = 1
    ELSE r.class IN ('spam', 'broken', 'encrypted') AND r.asked_by IS NOT NULL AND r.recipient_ids = ARRAY[r.asked_by] END
FROM release r LEFT JOIN quarantine_rule q ON q.workspace_id = r.workspace_id AND q.class = r.class AND q.updated_at <= r.created_at
WHERE r.id = $1;
