-- Saves a view or replaces the one of that name; does nothing where somebody has
-- as many as there may be. $1 id, $2 owner, $3 name, $4 query, $5 how many there may be
INSERT INTO audit_view (id, owner_id, name, query)
SELECT $1, $2, $3, $4
WHERE (SELECT count(*) FROM audit_view v WHERE v.owner_id = $2 AND lower(v.name) <> lower($3)) < $5
ON CONFLICT (owner_id, lower(name)) DO UPDATE SET name = excluded.name, query = excluded.query;
