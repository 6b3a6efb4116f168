-- $1 id, $2 workspace, $3 export, $4 when, $5 what, $6 account, $7 its name, $8 where, $9 why, $10 event of the audit
INSERT INTO evidence_custody (id, workspace_id, export_id, at, event, actor_id, actor, place, reason, event_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
