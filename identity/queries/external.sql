-- Whose account at a provider it is. $1 issuer, $2 subject there
SELECT user_id FROM external_identity WHERE issuer = $1 AND subject = $2;
