-- All accounts, the oldest first.
SELECT id, email, name, state, must_change_password, locale, theme, created_at, last_login_at, password_hash, break_glass FROM user_account ORDER BY created_at, id;
