-- Puts a key that is wrapped anew in the place of the one it was made from. $1 name, $2 old, $3 new, $4 by what
UPDATE blob SET wrapped_key = $3, wrapped_by = $4 WHERE name = $1 AND wrapped_key = $2;
