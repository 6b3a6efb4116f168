-- Forgets links whose time is over. $1 before
DELETE FROM digest_link WHERE expires_at < $1;
