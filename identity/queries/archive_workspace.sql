-- $1 workspace, $2 when; null opens it again
UPDATE workspace SET archived_at = $2 WHERE id = $1;
