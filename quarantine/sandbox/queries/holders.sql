-- Items that have the file of a task, the newest first. $1 task
SELECT h.item_id FROM sandbox_part p JOIN sandbox_hold h ON h.id = p.hold_id JOIN quarantine_item i ON i.id = h.item_id
WHERE p.task_id = $1 AND i.blob_removed_at IS NULL ORDER BY h.created_at DESC LIMIT 5;
