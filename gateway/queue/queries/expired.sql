-- Claims what has waited for too long, whether or not its destination can be reached. Mails with several such recipients
-- come together. $1 owner, $2 lease, $3 how many
WITH picked AS (
    SELECT d.id FROM delivery d WHERE d.state = 'queued' AND d.give_up_at <= now() ORDER BY d.give_up_at LIMIT $3 FOR UPDATE SKIP LOCKED)
UPDATE delivery SET state = 'delivering', lease_owner = $1, lease_until = now() + $2::interval, updated_at = now()
FROM picked WHERE delivery.id = picked.id AND state = 'queued'
RETURNING delivery.id, workspace_id, mail_id, kind, item_id, release_id, recipient_id, envelope_from, recipient, (SELECT b.wrapped_key FROM blob b WHERE b.name = delivery.blob_name), blob_name, header_edits, trace_header,
    smtputf8, eight_bit, attempts, created_at, give_up_at, dot_sent_at, destination, size, received_at, ret, envid, notify, orcpt, tell_sender,
    reply_code, reply_text, coalesce((SELECT s.last_error FROM delivery_destination s WHERE s.name = destination), '');
