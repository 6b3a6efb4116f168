-- $1 token, $2 now, $3 address
UPDATE api_token SET last_used_at = $2, last_used_ip = coalesce($3, last_used_ip) WHERE id = $1;
