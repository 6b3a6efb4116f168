-- +goose Up
-- The reasons in the history of health are kept as names of sentences with their
-- arguments, too, so that pages show them in the language of who reads them. Older rows
-- have English only.

SELECT audit.maintenance('0079', 'reasons in the history of health that can be read in each language');

SET LOCAL ROLE mailward_owner;

ALTER TABLE health_change ADD COLUMN says jsonb; -- [{"id": ..., "args": [...]}]; null: reason is all there is

RESET ROLE;

SELECT guard.seal();
