-- By what a released copy is known; the one of an earlier attempt goes. $1 release, $2 recipient, $3 hash of the secret, $4 hash of the bytes, $5 end
INSERT INTO release_mark (release_id, recipient_id, token_sha256, body_sha256, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (release_id, recipient_id) DO UPDATE SET token_sha256 = excluded.token_sha256, body_sha256 = excluded.body_sha256, expires_at = excluded.expires_at;
