-- +goose Up
-- A class in a state is counted by the index alone.

SELECT audit.maintenance('0077', 'the index of classes knows the state, too');

SET LOCAL ROLE mailward_owner;

DROP INDEX quarantine_item_class_idx;
CREATE INDEX quarantine_item_class_idx ON quarantine_item (workspace_id, class, received_at DESC, id DESC) INCLUDE (state);

RESET ROLE;

SELECT guard.seal();
