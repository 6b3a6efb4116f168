-- $1 issuer, $2 subject there, $3 now
UPDATE external_identity SET last_used_at = $3 WHERE issuer = $1 AND subject = $2;
