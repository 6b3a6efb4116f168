-- +goose Up
-- YARA rule sets that are managed in the web UI: versions that never change,
-- which of them is in use, and trials of a version on held mail.

SELECT audit.maintenance('0012', 'YARA rule sets are managed in the database');

SET LOCAL ROLE mailward_owner;

-- A set of rules, for the whole installation: a mail is scanned once for all of
-- its recipients. One that is deleted stays as a row, since hits name it.
CREATE TABLE yara_set (
    id          uuid             PRIMARY KEY,
    name        text             NOT NULL CHECK (name <> '' AND length(name) <= 100),
    description text             NOT NULL DEFAULT '' CHECK (length(description) <= 2000),
    class       text             NOT NULL CHECK (class IN ('malware', 'phishing', 'dlp', 'suspicious', 'spam', 'sign')), -- of hits whose rule says nothing else
    score       double precision NOT NULL CHECK (score >= 0 AND score <= 100),
    enabled     boolean          NOT NULL DEFAULT false,
    number      integer          NOT NULL DEFAULT 1, -- of the version in use
    version     bigint           NOT NULL DEFAULT 1, -- of this row
    created_at  timestamptz      NOT NULL DEFAULT now(),
    updated_at  timestamptz      NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
CREATE UNIQUE INDEX yara_set_name_idx ON yara_set (lower(name)) WHERE deleted_at IS NULL;

CREATE TABLE yara_set_version (
    id         uuid        PRIMARY KEY,
    set_id     uuid        NOT NULL REFERENCES yara_set (id),
    number     integer     NOT NULL CHECK (number > 0),
    source     text        NOT NULL CHECK (octet_length(source) <= 1048576),
    sha256     text        NOT NULL CHECK (sha256 = encode(sha256(convert_to(source, 'UTF8')), 'hex')),
    rules      text[]      NOT NULL, -- names, as the compiler found them
    comment    text        NOT NULL DEFAULT '' CHECK (length(comment) <= 500),
    author_id  uuid,                 -- null: not an account
    author     text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (set_id, number)
);
ALTER TABLE yara_set ADD CONSTRAINT yara_set_number_fkey FOREIGN KEY (id, number) REFERENCES yara_set_version (set_id, number) DEFERRABLE INITIALLY DEFERRED;

-- Rules that took too long on mails. Counts of a set belong to one version.
CREATE TABLE yara_slow (
    space    text        NOT NULL, -- a file, or the id of a set
    number   integer     NOT NULL, -- version of the set; 0: a file
    rule     text        NOT NULL, -- empty: no single one was to blame
    times    bigint      NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space, number, rule)
);

-- One trial of one version. Whoever runs it renews its lease; a trial whose
-- process has died is begun anew.
CREATE TABLE yara_backtest (
    id           uuid        PRIMARY KEY,
    set_id       uuid        NOT NULL REFERENCES yara_set (id),
    number       integer     NOT NULL,
    mails        integer     NOT NULL CHECK (mails BETWEEN 0 AND 1000), -- held ones, the newest first
    workspaces   uuid[]      NOT NULL, -- whose mail the person may look into
    requested_by uuid,
    requester    text        NOT NULL DEFAULT '',
    state        text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    total        integer     NOT NULL DEFAULT 0,
    done         integer     NOT NULL DEFAULT 0,
    result       jsonb       NOT NULL DEFAULT '{}',
    error        text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    finished_at  timestamptz,
    lease_owner  uuid,
    lease_until  timestamptz,
    tries        integer     NOT NULL DEFAULT 0
);
CREATE INDEX yara_backtest_set_idx ON yara_backtest (set_id, created_at DESC);
CREATE INDEX yara_backtest_open_idx ON yara_backtest (created_at) WHERE state IN ('queued', 'running');

RESET ROLE;

-- A source stands in the record by its SHA-256.
SELECT guard.record_table('yara_set', 'yara.set', 'id,name,description,class,score,enabled,number,version,deleted_at', '', '', 'sec-3y', 'IUD'),
       guard.record_table('yara_set_version', 'yara.version', 'id,set_id,number,sha256,rules,comment,author_id', '', '', 'sec-3y', 'IUD'),
       guard.record_table('yara_backtest', 'yara.backtest', 'id,set_id,number,mails,workspaces,requested_by', '', '', 'sec-3y', 'IUD');

CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON yara_set FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_yara');
CREATE TRIGGER mailward_notify AFTER INSERT ON yara_backtest FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_yara');

-- Versions are only added to; sets are never taken out.
GRANT SELECT, INSERT, UPDATE ON yara_set, yara_slow, yara_backtest TO mailward_app;
GRANT SELECT, INSERT ON yara_set_version TO mailward_app;

SELECT guard.seal();
