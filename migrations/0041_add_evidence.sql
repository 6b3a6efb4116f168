-- +goose Up
-- Forensic exports: cases, exports of held mails as evidence for a case, and the
-- chain of custody of each.

SELECT audit.maintenance('0041', 'held mails are exported as evidence');

SET LOCAL ROLE mailward_owner;

CREATE TABLE evidence_case (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    reference    text        NOT NULL CHECK (length(reference) BETWEEN 1 AND 100), -- as people name it
    title        text        NOT NULL CHECK (length(title) BETWEEN 1 AND 300),
    purpose      text        NOT NULL CHECK (length(purpose) BETWEEN 3 AND 500),
    created_by   uuid        REFERENCES user_account (id), -- null: at the command line
    created_name text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX evidence_case_reference_idx ON evidence_case (workspace_id, lower(reference));

-- One export. What exactly was decided stands in detail and in the event of the
-- decision; nothing is read before that was compared.
CREATE TABLE evidence_export (
    id              uuid        PRIMARY KEY,
    number          bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    workspace_id    uuid        NOT NULL REFERENCES workspace (id),
    case_id         uuid        NOT NULL REFERENCES evidence_case (id),
    item_ids        uuid[]      NOT NULL CHECK (cardinality(item_ids) > 0),
    language        text        NOT NULL CHECK (language IN ('en', 'de')),
    legal_hold      boolean     NOT NULL DEFAULT false,
    reason          text        NOT NULL CHECK (reason <> ''),
    detail          jsonb       NOT NULL,
    mode            text        NOT NULL CHECK (mode IN ('single_operator', 'required')),
    requested_by    uuid        REFERENCES user_account (id), -- null: at the command line
    requested_name  text        NOT NULL,
    request_id      uuid        UNIQUE REFERENCES approval_request (id), -- where two people decide
    intent_event_id uuid        UNIQUE,                                  -- where one does
    state           text        NOT NULL CHECK (state IN ('requested', 'approved', 'running', 'done', 'failed', 'denied')),
    step            text        NOT NULL DEFAULT '',
    error           text        NOT NULL DEFAULT '',
    tries           integer     NOT NULL DEFAULT 0,
    next_try_at     timestamptz NOT NULL DEFAULT now(),
    lease_until     timestamptz,
    receipt_id      text        NOT NULL DEFAULT '',
    uri             text        NOT NULL DEFAULT '',
    worm            text        NOT NULL DEFAULT '',
    retain_until    timestamptz,
    files           jsonb       NOT NULL DEFAULT '[]',
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    CHECK ((mode = 'required') = (request_id IS NOT NULL) AND (mode = 'single_operator') = (intent_event_id IS NOT NULL))
);
CREATE INDEX evidence_export_list_idx ON evidence_export (workspace_id, id DESC);
CREATE INDEX evidence_export_items_idx ON evidence_export USING gin (item_ids);
CREATE INDEX evidence_export_due_idx ON evidence_export (next_try_at) WHERE state IN ('approved', 'running');

CREATE TABLE evidence_custody (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    export_id    uuid        NOT NULL REFERENCES evidence_export (id),
    at           timestamptz NOT NULL,
    event        text        NOT NULL CHECK (event IN ('acquired', 'requested', 'approved', 'denied', 'read', 'stored', 'sealed', 'downloaded', 'damaged')),
    actor_id     uuid,
    actor        text        NOT NULL,
    place        text        NOT NULL DEFAULT '',
    reason       text        NOT NULL DEFAULT '',
    event_id     uuid        NOT NULL -- of the audit
);
CREATE INDEX evidence_custody_export_idx ON evidence_custody (export_id, at, id);

RESET ROLE;

SELECT guard.record_table('evidence_case', 'evidence.case', 'id,workspace_id,reference,title,purpose,created_by', '', '', 'sec-3y', 'IUD'),
       guard.record_table('evidence_export', 'evidence.export', 'id,number,workspace_id,case_id,item_ids,language,legal_hold,reason,mode,requested_by,request_id,intent_event_id,state,receipt_id,uri,worm,retain_until,files', '', '', 'sec-3y', 'IUD'),
       guard.record_table('evidence_custody', 'evidence.custody', 'id,export_id,at,event,actor_id,place,event_id', '', '', 'sec-3y', 'UD');

-- A chain of custody is only added to.
GRANT SELECT, INSERT ON evidence_case, evidence_custody TO mailward_app;
GRANT SELECT, INSERT, UPDATE ON evidence_export TO mailward_app;

SELECT guard.seal();
