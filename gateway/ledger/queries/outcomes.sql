-- What became of the copies of a mail. $1 mail
SELECT id, mail_id, recipient, state, next_hop, code, text, at FROM mail_outcome WHERE mail_id = $1 ORDER BY at, id;
