-- Claims what is due at some destinations. A release keeps dot_sent_at: it may be with its recipient already. What no person
-- decides on is sent again (RFC 5321 §6.1: rather twice than never). $1 owner, $2 lease, $3 destinations, $4 how many of each
WITH picked AS (
    SELECT r.id FROM unnest($3::text[], $4::int[]) AS want(name, most) CROSS JOIN LATERAL (
        SELECT d.id FROM delivery d WHERE d.state = 'queued' AND d.destination = want.name AND d.next_attempt_at <= now()
        ORDER BY d.next_attempt_at LIMIT want.most FOR UPDATE SKIP LOCKED) r)
UPDATE delivery SET state = 'delivering', lease_owner = $1, lease_until = now() + $2::interval, attempts = attempts + 1, last_attempt_at = now(),
    dot_sent_at = CASE kind WHEN 'release' THEN dot_sent_at END, updated_at = now()
FROM picked WHERE delivery.id = picked.id AND state = 'queued'
RETURNING delivery.id, workspace_id, mail_id, kind, item_id, release_id, recipient_id, envelope_from, recipient, (SELECT b.wrapped_key FROM blob b WHERE b.name = delivery.blob_name), blob_name, header_edits, trace_header,
    smtputf8, eight_bit, attempts, created_at, give_up_at, dot_sent_at, destination, size, received_at, ret, envid, notify, orcpt, tell_sender;
