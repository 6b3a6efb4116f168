-- What is to be in force: the versions in use of the sets that are enabled.
SELECT s.id, s.name, s.number, s.class, s.score, v.source
FROM yara_set s JOIN yara_set_version v ON v.set_id = s.id AND v.number = s.number
WHERE s.enabled AND s.deleted_at IS NULL ORDER BY s.id;
