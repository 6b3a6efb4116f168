-- Takes out what nobody ended in time. $1 now
DELETE FROM sign_in_step WHERE expires_at < $1;
