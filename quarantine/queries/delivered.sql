-- Who has a mail, or may have it, since when. $1 mail
SELECT recipient, min(at), now() FROM mail_outcome WHERE mail_id = $1 AND state IN ('relayed', 'outcome_unknown') GROUP BY recipient ORDER BY 2, 1;
