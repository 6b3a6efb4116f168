-- Notes a scan. $1 id, $2 workspaces, $3 from, $4 to, $5 reason, $6 author's id or null, $7 author, $8 how many, $9 whether there are more
INSERT INTO coverage_scan (id, workspaces, from_at, to_at, reason, author_id, author, total, cut) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
