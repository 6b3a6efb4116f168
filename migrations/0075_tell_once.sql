-- +goose Up
-- Whether a recipient was told of a copy is asked of its links, not of a time: what
-- came earlier and was held later, and what did not fit into a digest, is told too.

SELECT audit.maintenance('0075', 'digests tell of each held copy once');

SET LOCAL ROLE mailward_owner;

CREATE INDEX digest_link_recipient_idx ON digest_link (recipient_id);
DROP TABLE digest_told;

RESET ROLE;

SELECT guard.seal();
