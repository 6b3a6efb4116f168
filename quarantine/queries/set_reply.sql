-- $1 recipient, $2 code, $3 text of the next hop, $4 host that answered
UPDATE quarantine_recipient SET reply_code = $2, reply_text = $3, reply_host = $4, reply_at = CASE WHEN $2 <> 0 THEN now() END WHERE id = $1;
