-- +goose Up
-- The list of deliveries is ordered by id, which is a time-ordered one (UUIDv7).

SELECT audit.maintenance('0008', 'the list of deliveries gets the index that it is ordered by');

SET LOCAL ROLE mailward_owner;

DROP INDEX delivery_list_idx;
CREATE INDEX delivery_list_idx ON delivery (workspace_id, id DESC);

RESET ROLE;

SELECT guard.seal();
