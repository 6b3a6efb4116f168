-- The blind index of a value.
SELECT audit.blind($1);
