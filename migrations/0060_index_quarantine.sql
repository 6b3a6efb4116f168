-- +goose Up
-- What held mail can be searched by, so that a list of millions answers at once.

SELECT audit.maintenance('0060', 'held mail gets columns and indexes to search by');

-- A trusted extension: like pgcrypto, whoever may create in the database can add it.
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA guard;

SET LOCAL ROLE mailward_owner;

ALTER TABLE quarantine_item
    -- Exact things: from:, to:, hash:, mid:, sym:, yara:, sig:, url:, shape:. Null: not indexed yet.
    ADD COLUMN terms text[],
    -- Subject, addresses and names of findings in lower case, for parts of words.
    ADD COLUMN words text,
    -- Where its links lead, without query: what mails of one campaign share.
    ADD COLUMN links text[] NOT NULL DEFAULT '{}';

-- Entries of an index that wait to be sorted in would be read one by one by every search.
CREATE INDEX quarantine_item_terms_idx ON quarantine_item USING gin (terms) WITH (fastupdate = off);
CREATE INDEX quarantine_item_words_idx ON quarantine_item USING gin (words guard.gin_trgm_ops) WITH (fastupdate = off);
CREATE INDEX quarantine_item_score_idx ON quarantine_item (workspace_id, score DESC, received_at DESC, id DESC);
CREATE INDEX quarantine_item_class_idx ON quarantine_item (workspace_id, class, received_at DESC, id DESC);
CREATE INDEX quarantine_item_state_idx ON quarantine_item (workspace_id, state, received_at DESC, id DESC);
CREATE INDEX quarantine_item_outbound_idx ON quarantine_item (workspace_id, received_at DESC, id DESC) WHERE direction = 'outbound';
CREATE INDEX quarantine_item_unindexed_idx ON quarantine_item (received_at DESC) WHERE terms IS NULL;
-- The planner has to know how often each of the frequent ones occurs.
ALTER TABLE quarantine_item ALTER COLUMN terms SET STATISTICS 1000;

RESET ROLE;

SELECT guard.seal();
