-- Open sessions of an account. $1 account, $2 now, $3 it must have been used after
SELECT id, created_at, last_seen_at, expires_at, auth_method, provider, mfa, source_ip, user_agent_class FROM session
WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 AND last_seen_at > $3 ORDER BY last_seen_at DESC, id DESC;
