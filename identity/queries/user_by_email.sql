-- One account. $1 address
SELECT id, email, name, state, must_change_password, locale, theme, created_at, last_login_at, password_hash, break_glass FROM user_account WHERE email = $1;
