-- +goose Up
-- Who was told by mail of a request that waits for a second person.

SELECT audit.maintenance('0031', 'people who can decide on a request are told of it by mail');

SET LOCAL ROLE mailward_owner;

-- A row is a claim first: of several processes one tells a person. With a delivery
-- the mail is in the queue, and what became of it stands there.
CREATE TABLE approval_notice (
    request_id  uuid        NOT NULL, -- of a release, or of approval_request
    user_id     uuid        NOT NULL REFERENCES user_account (id),
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    tries       integer     NOT NULL DEFAULT 1,
    delivery_id uuid,
    PRIMARY KEY (request_id, user_id)
);
CREATE INDEX approval_notice_user_idx ON approval_notice (user_id, claimed_at DESC) WHERE delivery_id IS NOT NULL;
CREATE INDEX release_requested_idx ON release (created_at) WHERE state = 'requested';

RESET ROLE;

GRANT SELECT, INSERT, UPDATE ON approval_notice TO mailward_app;

SELECT guard.seal();
