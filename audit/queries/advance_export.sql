-- How far an export has come. $1 id, $2 events written, $3 part of the span of time
UPDATE audit_export SET written = $2, done = $3, updated_at = now() WHERE id = $1;
