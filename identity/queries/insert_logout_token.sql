-- $1 hash of issuer and jti, $2 end
INSERT INTO logout_token (id_hash, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING;
