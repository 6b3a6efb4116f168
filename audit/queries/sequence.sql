-- Numbers up to $1 waiting events.
SELECT audit.sequence($1);
