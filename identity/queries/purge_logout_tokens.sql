-- $1 now
DELETE FROM logout_token WHERE expires_at < $1;
