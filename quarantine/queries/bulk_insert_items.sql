-- Notes the items of an act. $1 act, $2 items in their order
INSERT INTO quarantine_bulk_item (bulk_id, number, item_id, workspace_id)
SELECT $1, t.number, i.id, i.workspace_id FROM unnest($2::uuid[]) WITH ORDINALITY t (id, number) JOIN quarantine_item i ON i.id = t.id;
