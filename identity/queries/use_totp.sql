-- Takes a time step, once. $1 account, $2 step, $3 now
UPDATE totp SET last_step = $2, confirmed_at = coalesce(confirmed_at, $3) WHERE user_id = $1 AND last_step < $2;
