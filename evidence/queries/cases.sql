-- Cases, the newest first, for choosing one. $1 workspaces, $2 at most
SELECT reference, title, purpose FROM evidence_case WHERE workspace_id = ANY ($1) ORDER BY id DESC LIMIT $2;
