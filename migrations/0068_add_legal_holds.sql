-- +goose Up
-- Held mail under a legal hold is neither deleted nor does it expire. Lifting one,
-- and rules that let fewer people decide, take two people where four eyes are wanted.

SELECT audit.maintenance('0068', 'legal holds on held mail');

DROP TRIGGER mailward_record ON quarantine_item;
DROP TRIGGER mailward_no_truncate ON quarantine_item;

SET LOCAL ROLE mailward_owner;

ALTER TABLE quarantine_item
    ADD COLUMN legal_hold_at     timestamptz,
    ADD COLUMN legal_hold_reason text NOT NULL DEFAULT '';
ALTER TABLE approval_request
    DROP CONSTRAINT approval_request_kind_check,
    ADD CONSTRAINT approval_request_kind_check CHECK (kind IN ('role_grant', 'delete', 'export', 'body_view', 'retention', 'legal_hold', 'release_rule'));
ALTER TABLE approval
    DROP CONSTRAINT approval_subject_type_check,
    ADD CONSTRAINT approval_subject_type_check CHECK (subject_type IN ('release', 'delete', 'export', 'body_view', 'retention', 'role_grant', 'legal_hold', 'release_rule'));

RESET ROLE;

SELECT guard.record_table('quarantine_item', 'quarantine.item', 'id,class,expires_at,blob_removed_at,stopped_at,legal_hold_at,legal_hold_reason', '', '', 'sec-3y', 'UD');

SELECT guard.seal();
