-- +goose Up
-- The delivery queue at any length: rows know their destination, so that a dead
-- one holds up nobody else, and what the sender asked to hear (RFC 3461). Each
-- attempt leaves a line. What a person takes out of the queue is 'deleted'.

SELECT audit.maintenance('0006', 'the delivery queue keeps destinations, attempts and the wishes of senders');

SET LOCAL ROLE mailward_owner;

ALTER TABLE delivery
    ADD COLUMN destination     text        NOT NULL DEFAULT '', -- the route, as the policies name it; empty: not looked up yet
    ADD COLUMN size            bigint      NOT NULL DEFAULT 0,
    ADD COLUMN received_at     timestamptz NOT NULL DEFAULT now(), -- when the mail came to us
    ADD COLUMN ret             text        NOT NULL DEFAULT '', -- RFC 3461: FULL, HDRS or nothing said
    ADD COLUMN envid           text        NOT NULL DEFAULT '', -- xtext, as the client gave it
    ADD COLUMN notify          text        NOT NULL DEFAULT '',
    ADD COLUMN orcpt           text        NOT NULL DEFAULT '',
    ADD COLUMN tell_sender     boolean     NOT NULL DEFAULT true, -- false: the sender is likely forged
    ADD COLUMN warn_at         timestamptz,                     -- when the sender hears of the delay; null: not, or done
    ADD COLUMN last_attempt_at timestamptz,
    DROP CONSTRAINT delivery_state_check,
    ADD CONSTRAINT delivery_state_check CHECK (state IN ('queued', 'delivering', 'delivered', 'failed', 'outcome_unknown', 'cancelled', 'deleted'));

ALTER TABLE quarantine_item
    ADD COLUMN ret   text NOT NULL DEFAULT '',
    ADD COLUMN envid text NOT NULL DEFAULT '';
ALTER TABLE quarantine_recipient
    ADD COLUMN notify text NOT NULL DEFAULT '',
    ADD COLUMN orcpt  text NOT NULL DEFAULT '';

DROP INDEX delivery_due_idx;
CREATE INDEX delivery_destination_idx ON delivery (destination, next_attempt_at) WHERE state = 'queued';
CREATE INDEX delivery_lease_idx ON delivery (lease_until) WHERE state = 'delivering';
CREATE INDEX delivery_give_up_idx ON delivery (give_up_at) WHERE state = 'queued';
CREATE INDEX delivery_warn_idx ON delivery (warn_at) WHERE state = 'queued' AND warn_at IS NOT NULL;
CREATE INDEX delivery_waiting_idx ON delivery (created_at, id) WHERE state IN ('queued', 'delivering');
CREATE INDEX delivery_list_idx ON delivery (workspace_id, created_at DESC, id DESC);
CREATE INDEX delivery_mail_idx ON delivery (mail_id);
CREATE INDEX delivery_blob_idx ON delivery (blob_name);
CREATE INDEX delivery_item_idx ON delivery (item_id) WHERE item_id IS NOT NULL;
CREATE INDEX delivery_release_idx ON delivery (release_id) WHERE release_id IS NOT NULL;

-- Destinations that could not be reached. Until down_until nothing is tried
-- there, then one mail is, and with the first that gets through the row goes.
CREATE TABLE delivery_destination (
    name        text        PRIMARY KEY,
    failures    integer     NOT NULL,
    down_since  timestamptz NOT NULL DEFAULT now(),
    down_until  timestamptz NOT NULL,
    last_error  text        NOT NULL DEFAULT ''
);

-- What the attempts of a delivery came to, the last few of each.
CREATE TABLE delivery_attempt (
    id          uuid        PRIMARY KEY,
    delivery_id uuid        NOT NULL REFERENCES delivery (id) ON DELETE CASCADE,
    number      integer     NOT NULL,
    began_at    timestamptz NOT NULL,
    took_ms     integer     NOT NULL,
    result      text        NOT NULL CHECK (result IN ('delivered', 'failed', 'put_off', 'outcome_unknown')),
    destination text        NOT NULL DEFAULT '',
    host        text        NOT NULL DEFAULT '', -- that answered, or was tried last
    tls         text        NOT NULL DEFAULT '',
    code        integer     NOT NULL DEFAULT 0,
    text        text        NOT NULL DEFAULT ''
);
CREATE INDEX delivery_attempt_delivery_idx ON delivery_attempt (delivery_id, number);

RESET ROLE;

-- The program's own steps are in the attempts, the ledger and the events of the
-- acts. What somebody changes past the program records itself.
CREATE TRIGGER mailward_record_update AFTER UPDATE ON delivery FOR EACH ROW WHEN (session_user <> 'mailward_app')
    EXECUTE FUNCTION guard.record_change('delivery', 'id,item_id,kind,mail_id,state,next_attempt_at,give_up_at,tell_sender', '', 'envelope_from,recipient', 'sec-3y', 'U');
ALTER TABLE delivery ENABLE ALWAYS TRIGGER mailward_record_update;
CREATE TRIGGER mailward_record_delete AFTER DELETE ON delivery FOR EACH ROW
    EXECUTE FUNCTION guard.record_change('delivery', 'id,item_id,kind,mail_id,state', '', 'envelope_from,recipient', 'sec-3y', 'D');
ALTER TABLE delivery ENABLE ALWAYS TRIGGER mailward_record_delete;
SELECT guard.add_trigger('delivery', 'mailward_no_truncate', 'TRUNCATE ON %t FOR EACH STATEMENT EXECUTE FUNCTION guard.refuse()');

GRANT SELECT, INSERT, UPDATE, DELETE ON delivery_destination TO mailward_app;
GRANT SELECT, INSERT, DELETE ON delivery_attempt TO mailward_app;

SELECT guard.seal();
