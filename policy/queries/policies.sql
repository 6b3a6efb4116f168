-- All policies.
SELECT id, workspace_id, domain, group_id, direction, actions, auth, lines, version, updated_at FROM policy ORDER BY domain, direction, id;
