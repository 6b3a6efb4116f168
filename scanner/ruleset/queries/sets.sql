-- Sets that are not deleted, or one of them. $1 id or NULL
SELECT s.id, s.name, s.description, s.class, s.score, s.enabled, s.number, (SELECT max(x.number) FROM yara_set_version x WHERE x.set_id = s.id),
       v.rules, v.sha256, s.version, s.created_at, s.updated_at
FROM yara_set s JOIN yara_set_version v ON v.set_id = s.id AND v.number = s.number
WHERE s.deleted_at IS NULL AND ($1::uuid IS NULL OR s.id = $1) ORDER BY lower(s.name);
