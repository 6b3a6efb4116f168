-- Hands a held mail to the delivery queue for one recipient, with all that the client said of it. The queue finds its
-- destination. $1 id, $2 recipient, $3 release, $4 when to give up, $5 how long it waits
INSERT INTO delivery (id, workspace_id, kind, mail_id, item_id, release_id, recipient_id, envelope_from, recipient, blob_name, header_edits, trace_header,
    smtputf8, eight_bit, size, received_at, ret, envid, notify, orcpt, tell_sender, give_up_at, next_attempt_at)
SELECT $1, i.workspace_id, 'release', i.mail_id, i.id, $3, r.id, i.envelope_from, r.address, i.blob_name, i.header_edits, i.trace_header,
    i.smtputf8, i.eight_bit, i.size, i.received_at, i.ret, i.envid, r.notify, r.orcpt, NOT r.added, $4, now() + $5::interval
FROM quarantine_recipient r JOIN quarantine_item i ON i.id = r.item_id WHERE r.id = $2;
