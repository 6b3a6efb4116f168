-- Who said that an item was held by mistake. $1 item
SELECT id, item_id, class, reason, reporter, entry_id, created_at FROM false_positive WHERE item_id = $1 ORDER BY id DESC LIMIT 50;
