-- +goose Up
-- A link with an account at a provider can be taken away again: by its owner, or with
-- the second factors of who has lost the account to somebody else.

SELECT audit.maintenance('0090', 'links with accounts at providers can be taken away');

GRANT DELETE ON external_identity TO mailward_app;

SELECT guard.seal();
