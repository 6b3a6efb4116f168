-- Whether an account has come in from a network lately. $1 address of the account, $2 network, $3 since
SELECT EXISTS (SELECT FROM session s JOIN user_account u ON u.id = s.user_id WHERE u.email = $1 AND s.source_ip <<= $2::inet AND s.created_at > $3);
