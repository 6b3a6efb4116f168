-- Not of an account that has no other way in. $1 account
DELETE FROM external_identity e USING user_account u WHERE e.user_id = $1 AND u.id = e.user_id AND u.password_hash <> '';
