-- Whether $2 has made the account $1, or given it a role, since $3; or whether one of the two has set how the other signs in: then one
-- person may be behind both.
SELECT EXISTS (SELECT FROM user_account WHERE id = $1 AND created_by = $2 AND created_at > $3)
    OR EXISTS (SELECT FROM role_grant WHERE user_id = $1 AND granted_by = $2 AND granted_at > $3)
    OR EXISTS (SELECT FROM audit.event e WHERE e.action IN ('auth.password_reset', 'auth.mfa_change') AND e.id >= audit.uuid_at($3)
               AND (e.actor_id = $2 AND $1::text = ANY (e.target_ids) OR e.actor_id = $1::text AND $2 = ANY (e.target_ids)));
