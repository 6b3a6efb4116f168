-- $1 account, $2 locale, $3 theme
UPDATE user_account SET locale = $2, theme = $3 WHERE id = $1;
