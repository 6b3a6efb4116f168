-- Notes what is scanned. $1 scan, $2 items, $3 their workspaces
INSERT INTO coverage_scan_item (scan_id, number, item_id, workspace_id) SELECT $1, n, item, workspace FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY x(item, workspace, n);
