-- By when a second factor has to be there; the first word counts. $1 account, $2 end of the grace
UPDATE user_account SET second_factor_due = coalesce(second_factor_due, $2) WHERE id = $1 RETURNING second_factor_due;
