-- Whether an address and a blob are those of an item and its recipient. $1 item, $2 recipient, $3 address, $4 blob
SELECT EXISTS (SELECT FROM quarantine_item i JOIN quarantine_recipient r ON r.item_id = i.id
WHERE i.id = $1 AND r.id = $2 AND r.address = $3 AND i.blob_name = $4);
