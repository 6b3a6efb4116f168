-- Claims what is due, and what a dead worker has left. $1 owner, $2 lease, $3 how many
UPDATE delivery SET state = 'delivering', lease_owner = $1, lease_until = now() + $2::interval, attempts = attempts + 1, updated_at = now()
WHERE id IN (
    SELECT id FROM delivery
    WHERE (state = 'queued' AND next_attempt_at <= now()) OR (state = 'delivering' AND lease_until < now())
    ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING id, workspace_id, mail_id, kind, item_id, release_id, recipient_id, envelope_from, recipient, blob_key, blob_name, header_edits, trace_header,
    eight_bit, attempts, give_up_at, dot_sent_at;
