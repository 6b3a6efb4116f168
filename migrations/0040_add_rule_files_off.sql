-- +goose Up
-- Files of YARA rules, from the program or the operator's folders, can be switched
-- off in the web UI. The files themselves are not ours to change.

SELECT audit.maintenance('0040', 'files of YARA rules can be switched off');

SET LOCAL ROLE mailward_owner;

CREATE TABLE yara_file_off (
    id         uuid        PRIMARY KEY,
    space      text        NOT NULL UNIQUE CHECK (space <> '' AND octet_length(space) <= 512), -- the file, as the scanner names it
    reason     text        NOT NULL CHECK (length(reason) BETWEEN 3 AND 500),
    actor_id   uuid,       -- null: not an account
    actor      text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

RESET ROLE;

SELECT guard.record_table('yara_file_off', 'yara.file', 'id,space,reason,actor_id', '', '', 'sec-3y', 'IUD');

CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON yara_file_off FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_yara');

GRANT SELECT, INSERT, DELETE ON yara_file_off TO mailward_app;

SELECT guard.seal();
