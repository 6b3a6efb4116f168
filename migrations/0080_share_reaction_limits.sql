-- +goose Up
-- The limit of a reaction is shared out: a process takes some of it before it touches
-- mail, so that all of them together never touch more.

SELECT audit.maintenance('0080', 'limits of reactions that several processes keep together');

SET LOCAL ROLE mailward_owner;

CREATE TABLE alert_reaction_share (
    reaction_id uuid        NOT NULL REFERENCES alert_reaction (id),
    holder      uuid        NOT NULL, -- a process
    amount      integer     NOT NULL CHECK (amount >= 0), -- what it may still touch, or has touched and not written down yet
    until       timestamptz NOT NULL, -- then it belongs to all again: the process is gone
    PRIMARY KEY (reaction_id, holder)
);

RESET ROLE;

GRANT SELECT, INSERT, UPDATE, DELETE ON alert_reaction_share TO mailward_app;

SELECT guard.seal();
