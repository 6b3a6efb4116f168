-- Who agreed to a release. $1 release
SELECT approver_id, event_id FROM approval WHERE subject_type = 'release' AND subject_id = $1 AND decision = 'approved';
