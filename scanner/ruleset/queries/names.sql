-- Rules of the other sets, and whose they are. $1 the set itself
SELECT r.name, s.name FROM yara_set s JOIN yara_set_version v ON v.set_id = s.id AND v.number = s.number, unnest(v.rules) AS r(name)
WHERE s.deleted_at IS NULL AND s.id <> $1;
