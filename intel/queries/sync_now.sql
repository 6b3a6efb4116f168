-- Makes a feed due. $1 name, $2 now
UPDATE intel_feed SET due_at = $2 WHERE name = $1;
