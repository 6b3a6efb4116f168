-- Where an item belongs. $1 item
SELECT workspace_id, mail_id FROM quarantine_item WHERE id = $1;
