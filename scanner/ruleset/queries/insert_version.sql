-- Adds the next version of a set. $1 id, $2 set, $3 source, $4 its SHA-256, $5 rules, $6 comment, $7 author's account or NULL, $8 author
INSERT INTO yara_set_version (id, set_id, number, source, sha256, rules, comment, author_id, author)
VALUES ($1, $2, coalesce((SELECT max(number) FROM yara_set_version WHERE set_id = $2), 0) + 1, $3, $4, $5, $6, $7, $8) RETURNING number;
