-- What a provider needs to end its own session. $1 session
SELECT provider, id_token FROM session WHERE id = $1;
