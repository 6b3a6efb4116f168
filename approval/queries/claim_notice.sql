-- Takes it on to tell a person of a request; no row where somebody else has. $1 request, $2 person
INSERT INTO approval_notice AS n (request_id, user_id) VALUES ($1, $2)
ON CONFLICT (request_id, user_id) DO UPDATE SET claimed_at = now(), tries = n.tries + 1
WHERE n.delivery_id IS NULL AND n.tries < 5 AND n.claimed_at <= now() - interval '5 minutes';
