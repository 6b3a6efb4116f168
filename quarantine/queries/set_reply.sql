-- $1 recipient, $2 code, $3 text of the next hop
UPDATE quarantine_recipient SET reply_code = $2, reply_text = $3 WHERE id = $1;
