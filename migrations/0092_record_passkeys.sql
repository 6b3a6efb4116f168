-- +goose Up
-- The public key of a passkey stands in the event of its making, so that nobody can put
-- another key under its name before it is first used.

SELECT audit.maintenance('0092', 'the record of a new passkey has its public key');

DROP TRIGGER mailward_record ON passkey;
DROP TRIGGER mailward_no_truncate ON passkey;

SET LOCAL ROLE mailward_owner;

ALTER TABLE passkey ADD COLUMN public_key text GENERATED ALWAYS AS (record ->> 'publicKey') STORED; -- COSE, base64

RESET ROLE;

SELECT guard.record_table('passkey', 'passkey', 'id,user_id,credential_id,public_key,name', '', '', 'sec-3y', 'IUD');

SELECT guard.seal();
