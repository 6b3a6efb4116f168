-- How many sets are in force, and their bytes, without one. $1 set
SELECT count(*), coalesce(sum(octet_length(v.source)), 0) FROM yara_set s JOIN yara_set_version v ON v.set_id = s.id AND v.number = s.number
WHERE s.enabled AND s.deleted_at IS NULL AND s.id <> $1;
