-- One delivery with all that delivering it takes. $1 id
SELECT id, workspace_id, mail_id, kind, item_id, release_id, recipient_id, envelope_from, recipient, (SELECT b.wrapped_key FROM blob b WHERE b.name = delivery.blob_name), blob_name, header_edits, trace_header,
    smtputf8, eight_bit, attempts, created_at, give_up_at, dot_sent_at, destination, size, received_at, ret, envid, notify, orcpt, tell_sender
FROM delivery WHERE id = $1;
