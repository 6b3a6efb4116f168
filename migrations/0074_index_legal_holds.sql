-- +goose Up
-- The list of what is under a legal hold.

SELECT audit.maintenance('0074', 'an index of legal holds');

SET LOCAL ROLE mailward_owner;

CREATE INDEX quarantine_item_hold_idx ON quarantine_item (legal_hold_at DESC, id DESC) WHERE legal_hold_at IS NOT NULL;

RESET ROLE;

SELECT guard.seal();
