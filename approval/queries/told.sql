-- $1 requests, $2 person, $3 delivery of the mail
UPDATE approval_notice SET delivery_id = $3, claimed_at = now() WHERE request_id = ANY ($1) AND user_id = $2;
