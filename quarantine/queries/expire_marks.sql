-- Forgets marks. $1 now
DELETE FROM release_mark WHERE expires_at < $1;
