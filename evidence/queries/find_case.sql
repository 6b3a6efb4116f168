-- $1 workspace, $2 as people name it
SELECT id FROM evidence_case WHERE workspace_id = $1 AND lower(reference) = lower($2);
