-- The recipients of an item, locked until the transaction ends. $1 item
SELECT id, address, state, reply_code, reply_text, updated_at, reply_host, reply_at, added FROM quarantine_recipient WHERE item_id = $1 ORDER BY id FOR UPDATE;
