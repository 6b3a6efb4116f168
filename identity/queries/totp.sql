-- $1 account
SELECT sealed, confirmed_at, last_step FROM totp WHERE user_id = $1;
