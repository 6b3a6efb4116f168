-- $1 account, $2 whether it is for emergencies
UPDATE user_account SET break_glass = $2 WHERE id = $1;
