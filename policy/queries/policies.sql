-- All policies.
SELECT id, workspace_id, domain, direction, actions, auth, version, updated_at FROM policy ORDER BY domain, direction;
