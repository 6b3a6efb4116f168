-- Deliveries of which the sender is to hear that they are late, locked. $1 how many
SELECT d.id, workspace_id, mail_id, kind, item_id, release_id, recipient_id, envelope_from, recipient, (SELECT b.wrapped_key FROM blob b WHERE b.name = d.blob_name), blob_name, header_edits, trace_header,
    smtputf8, eight_bit, attempts, created_at, give_up_at, dot_sent_at, destination, size, received_at, ret, envid, notify, orcpt, tell_sender,
    reply_code, reply_text, coalesce((SELECT s.last_error FROM delivery_destination s WHERE s.name = destination), '')
FROM delivery d WHERE d.state = 'queued' AND d.warn_at <= now() ORDER BY d.warn_at LIMIT $1 FOR UPDATE SKIP LOCKED;
