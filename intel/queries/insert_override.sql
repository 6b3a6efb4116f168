-- $1 id, $2 workspace, $3 effect, $4 kind, $5 value, $6 class, $7 owner, $8 reason, $9 expires, $10 created by, $11 how many there may be
INSERT INTO intel_override (id, workspace_id, effect, kind, value, class, owner, reason, expires_at, created_by)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE (SELECT count(*) FROM intel_override WHERE expires_at IS NULL OR expires_at > now()) < $11;
