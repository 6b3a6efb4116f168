-- Takes a feed that is due and that nobody has. $1 name, $2 now, $3 until when
UPDATE intel_feed SET claimed_until = $3 WHERE name = $1 AND due_at <= $2 AND (claimed_until IS NULL OR claimed_until <= $2)
RETURNING etag, modified, cursor, rows, claimed_until;
