-- The items of an act and how each stands. $1 act
SELECT number, item_id, workspace_id, state FROM quarantine_bulk_item WHERE bulk_id = $1 ORDER BY number;
