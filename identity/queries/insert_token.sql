-- $1 id, $2 workspace (null: installation), $3 hash, $4 name, $5 role, $6 owner, $7 end, $8 rights (none: all of the role)
INSERT INTO api_token (id, workspace_id, token_hash, name, role, owner_id, expires_at, scopes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);
