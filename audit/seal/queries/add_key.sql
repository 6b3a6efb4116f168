-- Notes a public key. $1 id, $2 algorithm, $3 key
SELECT audit.add_seal_key($1, $2, $3);
