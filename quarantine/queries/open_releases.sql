-- The releases of an item that wait or are under way, the oldest first. $1 item
SELECT r.id, r.state, r.mode, r.recipient_ids, coalesce(u.email, q.address, ''), r.reason, r.reason_code, CASE WHEN r.state = 'requested' THEN r.expires_at END,
       (SELECT min(d.next_attempt_at) FROM delivery d WHERE d.release_id = r.id AND d.state = 'queued' AND d.dot_sent_at IS NULL),
       coalesce((SELECT max(d.reply_text) FROM delivery d WHERE d.release_id = r.id AND d.state = 'queued' AND d.attempts > 0), '')
FROM release r LEFT JOIN user_account u ON u.id = r.requested_by LEFT JOIN quarantine_recipient q ON q.id = r.asked_by
WHERE r.item_id = $1 AND (r.state = 'requested' OR r.state = 'approved' AND EXISTS (SELECT FROM delivery d WHERE d.release_id = r.id AND d.state IN ('queued', 'delivering')))
ORDER BY r.created_at;
