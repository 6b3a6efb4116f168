-- Whether an account belongs to a recipient of an item. $1 item, $2 account
SELECT EXISTS (SELECT FROM quarantine_recipient r JOIN user_account u ON lower(u.email) = lower(r.address) WHERE r.item_id = $1 AND u.id = $2);
