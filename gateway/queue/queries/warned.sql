-- Notes that the sender knows. $1 ids
UPDATE delivery SET warn_at = NULL, updated_at = now() WHERE id = ANY ($1);
