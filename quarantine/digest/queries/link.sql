-- What stands behind a link. $1 id
SELECT k.workspace_id, k.item_id, k.recipient_id, k.expires_at, k.used_at, r.address, r.state, i.subject, i.header_from, i.class, i.received_at
FROM digest_link k JOIN quarantine_recipient r ON r.id = k.recipient_id JOIN quarantine_item i ON i.id = k.item_id
WHERE k.id = $1 AND i.blob_removed_at IS NULL AND r.item_id = i.id;
