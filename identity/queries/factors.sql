-- What an account has beside a password. $1 account
SELECT EXISTS (SELECT FROM totp WHERE user_id = $1 AND confirmed_at IS NOT NULL),
       (SELECT count(*) FROM passkey WHERE user_id = $1),
       (SELECT count(*) FROM recovery_code WHERE user_id = $1 AND used_at IS NULL),
       (SELECT count(*) FROM recovery_code WHERE user_id = $1);
