-- Versions of a set without their source, the newest first. $1 set
SELECT v.number, v.sha256, v.rules, v.comment, coalesce(nullif(u.name, ''), u.email, v.author), v.created_at
FROM yara_set_version v LEFT JOIN user_account u ON u.id = v.author_id
WHERE v.set_id = $1 ORDER BY v.number DESC LIMIT 200;
