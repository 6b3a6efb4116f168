-- $1 id, $2 workspace (null: installation), $3 kind, $4 request, $5 who asked, $6 who decided, $7 decision, $8 comment, $9 event
INSERT INTO approval (id, workspace_id, subject_type, subject_id, requested_by, approver_id, decision, comment, event_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
