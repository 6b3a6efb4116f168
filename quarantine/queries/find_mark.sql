-- The release of a mail that comes by once more, for the one recipient whose copy bears the secret. $1 hash of the secret, $2 hash of the bytes, $3 now
SELECT m.release_id, ARRAY[q.address], r.class
FROM release_mark m JOIN release r ON r.id = m.release_id JOIN quarantine_recipient q ON q.id = m.recipient_id
WHERE m.token_sha256 = $1 AND m.body_sha256 = $2 AND m.expires_at > $3 AND r.state IN ('approved', 'done', 'failed');
