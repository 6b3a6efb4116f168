-- Erases a personal value everywhere. $1 value, $2 legal basis
SELECT audit.erase($1, $2);
