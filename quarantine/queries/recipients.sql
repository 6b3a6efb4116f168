-- The recipients of some items. $1 item ids
SELECT item_id, id, address, state, reply_code, reply_text, updated_at, reply_host, reply_at, added FROM quarantine_recipient WHERE item_id = ANY ($1) ORDER BY item_id, id;
