-- +goose Up
-- A sandbox may call a file malicious after its mail was decided without it, or
-- even delivered. The item says when that became known, so that it stays to be
-- seen, and it is told once.

SELECT audit.maintenance('0015', 'items say when the sandbox called them malicious too late');

DROP TRIGGER mailward_record ON quarantine_item;
DROP TRIGGER mailward_no_truncate ON quarantine_item;

SET LOCAL ROLE mailward_owner;

ALTER TABLE quarantine_item ADD COLUMN malicious_late_at timestamptz;

-- For the search of such mail: few files are malicious, and few mails have them.
CREATE INDEX sandbox_task_malicious_idx ON sandbox_task (finished_at) WHERE verdict = 'malicious';
CREATE INDEX sandbox_part_file_idx ON sandbox_part (sha256);

RESET ROLE;

SELECT guard.record_table('quarantine_item', 'quarantine.item', 'id,class,expires_at,blob_removed_at,malicious_late_at', '', '', 'sec-3y', 'UD');

SELECT guard.seal();
