-- Forgets links of which nobody asks any more, not even whether they were sent. $1 expired before
DELETE FROM digest_link WHERE expires_at < $1;
