-- $1 id, $2 address, $3 name, $4 hash, $5 must change, $6 by whom
INSERT INTO user_account (id, email, name, password_hash, must_change_password, created_by) VALUES ($1, $2, $3, $4, $5, $6);
