-- Adds a second person's word. $1 id, $2 workspace, $3 release, $4 who asked, $5 who decided, $6 decision, $7 comment, $8 event
INSERT INTO approval (id, workspace_id, subject_type, subject_id, requested_by, approver_id, decision, comment, event_id) VALUES ($1, $2, 'release', $3, $4, $5, $6, $7, $8);
