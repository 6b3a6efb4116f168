-- The items of an act. $1 act
SELECT b.item_id, b.state, b.detail, b.at, i.subject, i.header_from, i.workspace_id FROM quarantine_bulk_item b JOIN quarantine_item i ON i.id = b.item_id WHERE b.bulk_id = $1 ORDER BY b.number;
