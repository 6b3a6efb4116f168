-- Ends logins of an account that are half done: their password counts no more. $1 account
DELETE FROM sign_in_step WHERE user_id = $1 AND kind = 'second_factor';
