-- Notes that a blob's file is gone, or is there after all. $1 name, $2 whether it is gone
UPDATE blob SET missing_at = CASE WHEN $2 THEN now() END WHERE name = $1 AND (missing_at IS NULL) = $2;
