-- +goose Up
-- A search for a personal value that is neither the actor's address nor the source
-- address reads its events newest first, a page and no more.

SELECT audit.maintenance('0083', 'personal values get an index in the order of their events');

SET LOCAL ROLE mailward_owner;
CREATE INDEX pii_value_idx ON audit.pii (blind, event_id DESC) WHERE path <> ALL ('{actor.email,source.ip}'::text[]);
RESET ROLE;

SELECT guard.seal();
