-- A secret that is not confirmed yet. One that counts already stays. $1 id, $2 account, $3 encrypted secret, $4 now
INSERT INTO totp (id, user_id, sealed, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, created_at = excluded.created_at, last_step = 0 WHERE totp.confirmed_at IS NULL;
