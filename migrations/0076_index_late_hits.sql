-- +goose Up
-- Alerts say who has a mail that was found bad after it was delivered.

SELECT audit.maintenance('0076', 'an index of late hits');

SET LOCAL ROLE mailward_owner;

CREATE INDEX quarantine_item_late_idx ON quarantine_item (malicious_late_at) WHERE malicious_late_at IS NOT NULL;
CREATE INDEX coverage_scan_item_late_idx ON coverage_scan_item (at) WHERE state = 'worse';

RESET ROLE;

SELECT guard.seal();
