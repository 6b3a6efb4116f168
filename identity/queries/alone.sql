-- Whether $1 has never been joined by a second person: every other account was made by $1 itself since $2.
SELECT NOT EXISTS (SELECT FROM user_account WHERE id <> $1 AND NOT (created_by = $1::text AND created_at > $2));
