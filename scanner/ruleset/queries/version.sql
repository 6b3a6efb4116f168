-- One version with its source. $1 set, $2 number
SELECT v.number, v.sha256, v.rules, v.comment, coalesce(nullif(u.name, ''), u.email, v.author), v.created_at, v.source
FROM yara_set_version v LEFT JOIN user_account u ON u.id = v.author_id
WHERE v.set_id = $1 AND v.number = $2;
