-- Whether $2 has made the account $1, or given it a role, since $3.
SELECT EXISTS (SELECT FROM user_account WHERE id = $1 AND created_by = $2 AND created_at > $3)
    OR EXISTS (SELECT FROM role_grant WHERE user_id = $1 AND granted_by = $2 AND granted_at > $3);
