-- $1 id, $2 workspace, $3 reference, $4 title, $5 purpose, $6 account (null: command line), $7 its name
INSERT INTO evidence_case (id, workspace_id, reference, title, purpose, created_by, created_name) VALUES ($1, $2, $3, $4, $5, $6, $7);
