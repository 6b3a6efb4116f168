-- Where a mail's links lead. $1 item
SELECT links FROM quarantine_item WHERE id = $1;
