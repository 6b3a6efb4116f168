-- $1 request, $2 its new state
UPDATE approval_request SET state = $2, decided_at = now() WHERE id = $1;
