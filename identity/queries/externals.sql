-- $1 account
SELECT provider FROM external_identity WHERE user_id = $1 ORDER BY created_at;
