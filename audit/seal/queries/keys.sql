-- All public keys, in the order of their first use.
SELECT algorithm, public FROM audit.seal_key ORDER BY added_at, id;
