-- $1 account
SELECT second_factor_due FROM user_account WHERE id = $1;
